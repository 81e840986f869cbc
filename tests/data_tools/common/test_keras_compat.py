"""The installed Keras has the private parts that huetune uses."""

from pathlib import Path

from huetune.data_tools.common import keras_compat
from huetune.data_tools.common.keras_backend import keras
from tests.private_names import missing, parts, used


def test_installed_keras_has_all_private_names():
    assert missing(keras_compat.PRIVATE, {}) == []


def test_all_used_private_names_are_listed():
    assert used(Path(keras_compat.__file__)) <= parts(keras_compat.PRIVATE)


def test_missing_private_name_is_reported_with_what_breaks(monkeypatch):
    monkeypatch.delattr(keras.src.backend.config, "_KERAS_DIR")
    (line,) = missing(keras_compat.PRIVATE, {})
    assert "has no keras.src.backend.config._KERAS_DIR" in line and "downloads" in line
