"""The cluster that `--address` and RAY_ADDRESS mean."""

import subprocess
import sys

import pytest
from ray._private.services import find_gcs_addresses

from huetune.data_tools.common.errors import UserError
from huetune.search.ray_runtime.address import check, resolve

forget = find_gcs_addresses.cache_clear  # type: ignore[attr-defined]  # Ray sets it on the function


@pytest.fixture
def recorded_address(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_resolve_auto_reads_the_address_of_ray_start(recorded_address):
    recorded_address.write_text("10.1.2.3:6379\n", encoding="utf-8")
    assert resolve("auto") == "10.1.2.3:6379" and resolve(None) is None


def test_resolve_auto_ignores_the_ray_of_another_search(recorded_address):
    """Ray itself would join it, because it looks for a raylet in the list of processes."""
    words = ["raylet", "-c", "import time; time.sleep(60)", "--gcs-address=127.0.0.1:9"]
    other = subprocess.Popen(words, executable=sys.executable)
    try:
        forget()
        assert "127.0.0.1:9" in find_gcs_addresses()
        with pytest.raises(UserError, match="has started no cluster on this machine"):
            resolve("auto")
    finally:
        other.kill()
        other.wait()
        forget()


@pytest.mark.parametrize(
    ("address", "reason"), [("auto", "no cluster on"), ("ray://a", "HOST:PORT"), ("x", "is not a H")]
)
def test_check_names_ray_address_when_it_is_wrong(recorded_address, monkeypatch, address, reason):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as refused:
        check(None)
    assert str(refused.value).startswith(f"RAY_ADDRESS='{address}': ") and reason in str(refused.value)
    assert str(refused.value).endswith("; `--address local` searches on this machine")


def test_resolve_local_ignores_ray_address(recorded_address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    check("local")
    assert resolve("local") is None and resolve(None) == "127.0.0.1:1"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert resolve(None) is None
