"""A run's photos are found again where they were moved to, and others are not taken for them."""

import json
import shlex
import shutil

import pytest

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.datasets.synthetic_garden import write_garden
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import split
from huetune.results.cli.log_command import models_to_log
from huetune.results.records.run import MANIFEST, Run
from huetune.results.records.run_photos import MOVED_PHOTOS_FILE, PHOTO_LIST_FILE, files_of, photos_of


@pytest.fixture
def moved(searched, tmp_path, monkeypatch):
    """A run whose photos were in the folder `photos`, which is called `photos 2` now."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "all runs" / "tiny")
    run = Run(tmp_path / "all runs" / "tiny")
    write_garden(12, tmp_path / "photos")
    source = Source(tmp_path / "photos")
    parts = split(source.read()[0], seed=5)
    assert parts.fingerprint == run.manifest["photos"]["fingerprint"]
    photos = {**run.manifest["photos"], "source": source.record}
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, "photos": photos}), encoding="utf-8")
    assert json.loads((run.folder / PHOTO_LIST_FILE).read_text(encoding="utf-8")) == json.loads(
        json.dumps(files_of(parts, source))
    ), "a search records the names and digests of its photos"
    (tmp_path / "photos").rename(tmp_path / "photos 2")
    monkeypatch.chdir(tmp_path)
    return run


VERBS: dict[str, list] = {
    "resume": [],
    "extend": ["--trials", 1],
    "confirm": ["--seeds", 2],
    "compare": ["0", "1"],
    "rerun": ["0"],
    "verify": [],
}


@pytest.mark.parametrize("verb", VERBS)
def test_moved_photos_are_named_with_remedy(verb, moved, in_process, tmp_path):
    """Each verb that trains or scores takes --photos, and without it names the command that helps."""
    words = (verb, moved.location, *VERBS[verb])
    done = in_process(*words)
    said = done.stdout + done.stderr
    assert done.returncode == 3 and f"{str(tmp_path / 'photos')!r} is not a folder" in said, said
    assert f"huetune verify {shlex.quote(moved.location)} --quick --photos DIR" in said
    (tmp_path / "empty").mkdir()
    done = in_process(*words, "--photos", "empty")
    assert done.returncode == 3 and f"no photos in {str(tmp_path / 'empty')!r}" in done.stdout + done.stderr
    assert not (moved.folder / MOVED_PHOTOS_FILE).exists()


def test_moved_photos_are_remembered(moved, in_process, tmp_path):
    printed = in_process("resume", moved.location).stderr.partition("moved: huetune ")[2].replace("DIR", "'photos 2'")
    done = in_process(*shlex.split(printed))
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "elsewhere").mkdir()
    for verb in ("resume", "verify"):
        done = in_process(verb, moved.folder, cwd=tmp_path / "elsewhere")
        assert done.returncode == 0, done.stdout + done.stderr
    photos, source = models_to_log(moved, 1, ()).read_held_out()
    assert len(photos) == len(source.read_rgb(photos)) == 1, "those that the experiment log shows"


def test_verify_without_photos_checks_everything_else(moved, in_process):
    done = in_process("verify", moved.location)
    assert done.returncode == 3 and "everything else is undamaged" in done.stdout
    (moved.folder / "lock").unlink()
    done = in_process("verify", moved.location)
    assert done.returncode == 1 and "2 problems found" in done.stdout and "lock': does not exist" in done.stdout
    assert "photos: " in done.stdout


def _delete(folder):
    (folder / "garden-0003.png").unlink()


def _add(folder):
    write_garden(1, folder / "more", seed=9)


def _change(folder):
    shutil.copy(folder / "garden-0001.png", folder / "garden-0007.png")


def _delete_and_add(folder):
    _delete(folder)
    _add(folder)


def _rename(folder):
    (folder / "garden-0003.png").rename(folder / "z.png")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_delete, ": of 12 photos 1 missing; the first is 'garden-0003.png' (missing)"),
        (_add, ": of 12 photos 1 new; the first is 'more/garden-0000.png' (new)"),
        (_change, ": of 12 photos 1 changed; the first is 'garden-0007.png' (changed)"),
        (_delete_and_add, ": of 12 photos 1 missing, 1 new; the first is 'garden-0003.png'"),
        (_rename, "another order"),
    ],
)
def test_changed_photos_are_counted_and_named(harm, said, moved, tmp_path):
    harm(tmp_path / "photos 2")
    with pytest.raises(PhotoError) as refused:
        photos_of(moved, quiet=True, moved=tmp_path / "photos 2")
    assert said in str(refused.value) and "\n" not in str(refused.value)
    if harm is _rename:
        assert "(1 have other names: 'z.png' was 'garden-0003.png')" in str(refused.value)
    assert not (moved.folder / MOVED_PHOTOS_FILE).exists()
    (moved.folder / PHOTO_LIST_FILE).unlink()
    with pytest.raises(PhotoError) as refused:
        photos_of(moved, quiet=True, moved=tmp_path / "photos 2")
    said_of_an_older_run = "another order" if harm is _rename else "searched with; restore them"
    assert said_of_an_older_run in str(refused.value)


def test_renamed_photos_in_same_order_are_accepted(moved, tmp_path):
    for path in sorted((tmp_path / "photos 2").iterdir()):
        path.rename(path.with_name(f"new-{path.name}"))
    photos_of(moved, quiet=True, moved=tmp_path / "photos 2")
    assert photos_of(moved, quiet=True).order == moved.manifest["photos"]["order"]


def test_damaged_record_of_moved_photos_is_named(moved, tmp_path):
    (moved.folder / MOVED_PHOTOS_FILE).write_text("[]", encoding="utf-8")
    with pytest.raises(StorageError, match=f"{MOVED_PHOTOS_FILE}': cannot be read .*pass --photos again"):
        photos_of(moved, quiet=True)
    photos_of(moved, quiet=True, moved=tmp_path / "photos 2")
