"""`launch` checks names, storage and study before Ray starts."""

import pytest
from rich.console import Console

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.photos.source import Source
from huetune.search.session.runner import launch
from tests.search.builders import make_search


def test_launch_with_a_taken_name_is_refused(tmp_path, parts):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match="exists already; choose another --name"):
        launch(make_search(name="mine", storage=tmp_path), parts, Console(), source=Source())
    assert (tmp_path / "mine" / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("study", "error", "message"),
    [
        ("postgresql://me:secret@127.0.0.1/x", UserError, "the URL contains a password"),
        ("no url", UserError, "not a database URL"),
        ("sqlite:////no/such/folder/study.db", StorageError, "'/no/such/folder' is not a folder"),
    ],
)
def test_launch_with_a_bad_study_leaves_no_run(study, error, message, tmp_path, parts):
    with pytest.raises(error, match=message) as refused:
        launch(make_search(name="new", storage=tmp_path, study=study), parts, Console(), source=Source())
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "new").exists()
