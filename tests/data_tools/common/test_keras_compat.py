"""The installed Keras has the private parts that huetune uses."""

from pathlib import Path

from huetune.data_tools.common import keras_compat
from huetune.data_tools.common.keras_backend import keras
from tests.private_names import missing, parts, used


def test_keras_has_the_private_parts_that_are_used():
    assert missing(keras_compat.PRIVATE, {}) == []


def test_private_parts_of_keras_are_all_named():
    assert used(Path(keras_compat.__file__)) <= parts(keras_compat.PRIVATE)


def test_gone_part_of_keras_is_told_with_what_breaks(monkeypatch):
    monkeypatch.delattr(keras.src.backend.config, "_KERAS_DIR")
    (line,) = missing(keras_compat.PRIVATE, {})
    assert "has no keras.src.backend.config._KERAS_DIR" in line and "downloads" in line
