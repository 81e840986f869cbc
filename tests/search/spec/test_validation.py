"""Validation of specifications, resources and storage."""

import contextlib
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.photos.source import Source
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
