"""Fixtures that tests of buckets share."""

import pytest

from huetune.data_tools.storage.object_store import BucketPath


@pytest.fixture
def place(store, tmp_path) -> BucketPath:
    """A path of this test's own."""
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}"))


@pytest.fixture
def broken(store, network, tmp_path) -> BucketPath:
    """The same path through a proxy that can fail."""
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}", network.port))
