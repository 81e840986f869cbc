"""The installed Optuna has the private parts that huetune uses."""

from pathlib import Path

import optuna
from optuna.trial import TrialState, create_trial

from huetune.results.records import optuna_compat
from tests.private_names import Makers, missing, parts, used

MAKERS: Makers = {
    "optuna.Study": optuna.create_study,
    "optuna.Trial": lambda: optuna.create_study().ask(),
    "optuna.trial.FrozenTrial": lambda: create_trial(state=TrialState.RUNNING),
}


def test_installed_optuna_has_all_private_parts():
    assert missing(optuna_compat.PRIVATE, MAKERS) == []


def test_private_parts_of_optuna_are_all_listed():
    assert used(Path(optuna_compat.__file__)) <= parts(optuna_compat.PRIVATE)


def test_missing_part_of_optuna_is_named_with_its_use(monkeypatch):
    monkeypatch.delattr(optuna.storages.BaseStorage, "create_new_trial")
    (line,) = missing(optuna_compat.PRIVATE, MAKERS)
    assert "has no optuna.storages.BaseStorage.create_new_trial" in line and "trials are added in one step" in line
