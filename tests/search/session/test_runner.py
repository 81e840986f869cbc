"""What is asked of a search is checked before Ray starts."""

import contextlib
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.photos.source import Source
from huetune.search.ray_runtime.cluster import count_slots, raised_by_ray
from huetune.search.session.runner import launch
from huetune.search.spec.resources import Resources
from huetune.search.spec.validation import check_storage_outside_photos, is_half_created
from tests.search.builders import make_search


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "../x"}, "a run's name has 1 to 100 letters"),
        ({"objectives": ("loss",)}, "objective must be one of chroma_mse, skill, chroma_ratio_error, received 'loss'"),
        ({"searcher": "bayes"}, "searcher must be one of tpe, random, grid, cmaes, nsga2"),
        ({"scheduler": "pbt"}, "scheduler must be one of asha, hyperband, median, none"),
        ({"trials": 0}, "trials must be 1 or more, received 0"),
        ({"epochs": -1}, "epochs must be 1 or more, received -1"),
        ({"objectives": ("skill", "skill")}, "objective must name different metrics, received 'skill, skill'"),
        ({"objectives": ("chroma_mse", "chroma_ratio_error")}, "scheduler 'asha' ranks by one objective"),
        ({"confirm": (3, 1)}, "confirm must be 1 or more finalists with 2 or more seeds each, received (3, 1)"),
        ({"stop_when_flat": 0}, "stop-when-flat must be 1 or more, received 0"),
        ({"warm_start": ("model-9",)}, "warm-start must name presets (model-1, model-2"),
    ],
)
def test_search_with_bad_value_is_refused_in_one_line(asked, message):
    with pytest.raises(UserError) as refused:
        make_search(**asked)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("lock", True),
        ("study.db-journal", True),
        ("study-copy.db", True),
        (".study.db.draft", True),
        (".study-copy.db-0a1b2c3d", True),
        (".manifest.json-0a1b2c3d", True),
        ("photos.json", True),
        (".photos.json-0a1b2c3d", True),
        ("manifest.json", False),
        ("locksmith", False),
        ("photo.jpg", False),
    ],
)
def test_half_created_run_folder_has_only_files_of_huetune(name, ours, tmp_path):
    (tmp_path / "study.db").touch()
    (tmp_path / name).touch()
    assert is_half_created(tmp_path) is ours


@pytest.mark.parametrize(
    ("photos", "storage", "fine"),
    [
        (".", "runs", False),
        (".", "../runs", True),
        ("../photos", "runs", False),
        ("..", "../other/runs", False),
        (".", "../link/runs", False),
        ("rose", "rose-runs", True),
    ],
)
def test_storage_among_photos_is_refused(photos, storage, fine, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    with contextlib.nullcontext() if fine else pytest.raises(UserError, match="would be taken for photos"):
        check_storage_outside_photos(Source(Path(photos)), Path(storage))


def test_resources_out_of_range_are_refused():
    with pytest.raises(UserError, match="cpus-per-trial must be above 0, received 0"):
        Resources(cpus_per_trial=0)
    with pytest.raises(UserError, match="gpus-per-trial must be 0 or more, received nan"):
        Resources(gpus_per_trial=float("nan"))


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "expected"),
    [
        (1, 0, {"CPU": 2.0}, 2),
        (0.5, 0, {"CPU": 2.0}, 4),
        (2, 0, {"CPU": 7.0, "GPU": 1.0}, 3),
        (1, 0.125, {"CPU": 16.0, "GPU": 1.0}, 8),
        (1, 0.1, {"CPU": 16.0, "GPU": 0.3}, 3),
    ],
)
def test_slots_are_what_the_resources_allow(cpus, gpus, resources, expected):
    assert count_slots(cpus, gpus, resources) == expected


def test_slots_without_resources_for_one_trial_fail():
    with pytest.raises(UserError, match="no room for a trial of 1 CPUs and 1 GPUs: Ray has 4 and 0"):
        count_slots(1, 1, {"CPU": 4.0})


def test_raised_by_ray_follows_the_traceback():
    from ray import tune

    def error_of(action):
        try:
            action()
        except Exception as error:
            return error

    assert raised_by_ray(error_of(lambda: tune.Tuner("no such trainable").fit()))
    assert not raised_by_ray(error_of(lambda: count_slots(1, 1, {})))


def test_launch_with_a_taken_name_is_refused(tmp_path, parts):
    from rich.console import Console

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
    from rich.console import Console

    with pytest.raises(error, match=message) as refused:
        launch(make_search(name="new", storage=tmp_path, study=study), parts, Console(), source=Source())
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "new").exists()
