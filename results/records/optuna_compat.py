"""The only uses of private and internal parts of Optuna, as of Optuna 5.0.0.

`Study.ask` would draw values and take ours only afterwards, in several steps, so a process that dies between the steps
would leave an incomplete trial. Optuna's storages add a whole trial in one step, as `Study.add_trial` does, but they
are internal.

`PRIVATE` lists each part and what breaks without it. tests/results/records/test_optuna_compat.py checks that the
installed version has them.
"""

from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

PRIVATE: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "optuna.Study._storage": (None, "trials are added, interrupted and continued in one step; the dashboard"),
    "optuna.Study._study_id": (None, "trials are added; the dashboard"),
    "optuna.Trial._trial_id": (None, "trials are interrupted and end"),
    "optuna.trial.FrozenTrial._trial_id": (None, "interrupted trials are continued"),
    "optuna.Trial": (("study", "trial_id"), "trials are added and continued"),
    "optuna.storages.BaseStorage.create_new_trial": (
        ("self", "study_id", "template_trial"),
        "trials are added in one step",
    ),
    "optuna.storages.BaseStorage.set_trial_state_values": (
        ("self", "trial_id", "state", "values"),
        "trials are interrupted and continued",
    ),
    "optuna.storages.BaseStorage.get_trial": (("self", "trial_id"), "trials are interrupted and end"),
    "optuna.storages.BaseStorage.get_best_trial": (("self", "study_id"), "the dashboard shows the winner"),
    "optuna.storages.BaseStorage.get_all_studies": (("self",), "the dashboard's note on the winner"),
}
"""By the name of each part: its parameters, or None if there are none to check, and what breaks without it."""


def add_running_trial(study: optuna.Study, template: FrozenTrial) -> optuna.Trial:
    """Add a running trial to a study in one step, and return it for reporting.

    Args:
        study: the study, opened for writing.
        template: a running trial, made by `optuna.trial.create_trial`.
    """
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


def mark_running(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Set a waiting trial running, unless it is recorded as running already, and return it for reporting."""
    if trial.state == TrialState.WAITING:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    return optuna.Trial(study, trial._trial_id)


def mark_waiting(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Set a running trial waiting, so that it can be continued later."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def read_trial(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    """Read the present state of a trial from the study."""
    return study._storage.get_trial(trial._trial_id)


def storage_with_overrides(
    study: optuna.Study, best: Callable[[], FrozenTrial | None], attributes: Callable[[], dict[str, Any]]
) -> tuple[BaseStorage, int]:
    """Return the storage of a study, patched to return another best trial and more system attributes, and its id.

    Args:
        study: a study that was opened for reading, and only for this call, because its storage is patched.
        best: function that returns the trial to be returned as the best one; None for the one that Optuna finds.
        attributes: function that returns system attributes to be added to those of the study.
    """
    storage, number, name = study._storage, study._study_id, study.study_name
    best_trial, all_studies = storage.get_best_trial, storage.get_all_studies

    def get_best_trial(study_id: int) -> FrozenTrial:
        return (best() if study_id == number else None) or best_trial(study_id)

    def get_all_studies() -> list[Any]:
        studies = all_studies()
        for one in studies:
            if one.study_name == name:
                one.system_attrs |= attributes()
        return studies

    storage.get_best_trial = get_best_trial  # type: ignore[method-assign]  # only of this instance
    storage.get_all_studies = get_all_studies  # type: ignore[method-assign]
    return storage, number
