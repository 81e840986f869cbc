"""A study that is read straight from its file is the one that Optuna reads."""

import contextlib
import math
import shutil
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from huetune.results.records.run import STUDY, Run, open_storage, sqlite_url
from huetune.results.records.study_file import read_studies
from tests.interpreter import RUN_COMMAND, parse_imports

DISTRIBUTIONS = {
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "skip": CategoricalDistribution([True, False, None, "no"]),
    "units": IntDistribution(8, 64, step=8),
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file of studies with all that a study can hold, in a folder with an odd name, far from Greenwich."""
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    folder = tmp_path / "a b#c?d%41é"
    folder.mkdir()
    storage = open_storage(sqlite_url(folder / STUDY))
    single = optuna.create_study(storage=storage, study_name="single")
    double = optuna.create_study(storage=storage, study_name="double", directions=["minimize", "maximize"])
    double.set_user_attr("zero", {"skill": 0.0, "b": [1, None]})
    double.set_user_attr("asked", "é")
    odd = {1: math.nan, 3: -math.inf, 2: math.inf, 7: 0.1}
    params = {"units": 16, "rate": 0.3, "skip": None}
    for study, values in ((double, [math.inf, -0.5]), (single, [1e-300]), (double, [-math.inf, 2.0])):
        study.add_trial(
            create_trial(
                values=values,
                params=params,
                distributions=DISTRIBUTIONS,
                user_attrs={"epoch-1": {"skill": 0.25}, "epoch-0": None},
                system_attrs={"note": [1]},
                intermediate_values=odd,
            )
        )
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING):
        double.add_trial(create_trial(state=state, params={"rate": 0.5}, distributions={"rate": DISTRIBUTIONS["rate"]}))
    optuna.create_study(storage=storage, study_name="empty", direction="maximize")
    yield folder / STUDY
    monkeypatch.undo()
    time.tzset()


def _whole(study: optuna.Study) -> str:
    """All of a study in its order, but for the numbers that its storage gives its trials."""
    trials = [{name: value for name, value in vars(trial).items() if name != "_trial_id"} for trial in study.trials]
    return repr((study.study_name, study.directions, list(study.user_attrs.items()), trials))


def test_read_studies_equal_those_that_optuna_reads(path):
    """With every state, kind of value and time, in the same order."""
    names, storage = ["double", "empty", "single"], open_storage(sqlite_url(path))
    for name, read in zip(names, read_studies(path, names), strict=True):
        assert read and _whole(read) == _whole(optuna.load_study(study_name=name, storage=storage))
    assert read_studies(path, ["none"]) == [None]


@pytest.fixture
def confirmed(searched, tmp_path):
    """The run of a real search whose complete trials have two replicates each."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    run = Run(tmp_path / "tiny")
    again = optuna.create_study(storage=open_storage(run.database), study_name=run.replicates_name)
    complete = run.study().get_trials(states=(TrialState.COMPLETE,))
    again.set_user_attr("finalists", [trial.number for trial in complete])
    again.add_trials([*complete, *complete])
    return run


def test_read_real_study_equals_that_of_optuna(confirmed):
    run = confirmed
    study, replicates = run.snapshot()
    slow = run.replicates()
    assert _whole(study) == _whole(run.study())
    assert replicates and slow and _whole(replicates) == _whole(slow)


def test_study_of_another_revision_is_read_by_optuna(path):
    (path.parent / "manifest.json").write_text('{"search": {"name": "single"}}', encoding="utf-8")
    run = Run(path.parent)
    assert isinstance(run.snapshot()[0]._storage, optuna.storages.InMemoryStorage)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v9'")
    with pytest.raises(ValueError, match="v9"):
        read_studies(path, ["single"])
    with pytest.raises(Exception, match=r"revision v9 and Optuna [\d.]+ uses v3.2.0.a; install a newer"):
        run.snapshot()


SLOW = {"tensorflow", "keras", "ray", "scipy", "sqlalchemy", "alembic", "pandas", "altair", "skimage", "pyarrow"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["presets"], "1203858"),
        (["list"], "2 failed"),
        (["trials", "tiny"], "confirmed"),
    ],
)
def test_table_commands_import_no_slow_package(words, shown, confirmed):
    """Not even after a search whose finalists have intervals."""
    storage = [] if words == ["presets"] else ["--storage", str(confirmed.folder.parent)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, *words, *storage],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert shown in done.stdout
    modules, _ = parse_imports(done.stderr)
    assert not SLOW & modules
