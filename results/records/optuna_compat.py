"""All private and internal parts of Optuna that huetune uses, read from Optuna 5.0.0.

Optuna's own `ask` would draw values and could only be told of ours afterwards, in steps: a process that dies between
them leaves half a trial. Its storage takes a whole trial at once, as `Study.add_trial` does; but storages are internal.

`PRIVATE` names each and what breaks without it. tests/results/records/test_optuna_compat.py looks for them in
the installed version.
"""

from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

PRIVATE: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "optuna.Study._storage": (None, "trials begin, wait and go on in one step; the dashboard"),
    "optuna.Study._study_id": (None, "trials begin; the dashboard"),
    "optuna.Trial._trial_id": (None, "trials wait and end"),
    "optuna.trial.FrozenTrial._trial_id": (None, "trials that were left go on"),
    "optuna.Trial": (("study", "trial_id"), "trials begin and go on"),
    "optuna.storages.BaseStorage.create_new_trial": (
        ("self", "study_id", "template_trial"),
        "trials begin in one step",
    ),
    "optuna.storages.BaseStorage.set_trial_state_values": (
        ("self", "trial_id", "state", "values"),
        "trials wait and go on",
    ),
    "optuna.storages.BaseStorage.get_trial": (("self", "trial_id"), "trials wait and end"),
    "optuna.storages.BaseStorage.get_best_trial": (("self", "study_id"), "the dashboard names the winner"),
    "optuna.storages.BaseStorage.get_all_studies": (("self",), "the dashboard's note on the winner"),
}
"""By name: its parameters, None where it has none to check, and what in huetune breaks without it."""


def begin_trial(study: optuna.Study, template: FrozenTrial) -> optuna.Trial:
    """Add a trial to a study in one step, and return it open.

    Args:
        study: open for writing.
        template: the trial as `optuna.trial.create_trial` makes it, running.
    """
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


def take_up_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Have a trial that waits, or was left running, run again, and return it open."""
    if trial.state == TrialState.WAITING:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    return optuna.Trial(study, trial._trial_id)


def put_back_trial(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Have a running trial wait."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def stored_trial(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    """Return a trial as the study has it now."""
    return study._storage.get_trial(trial._trial_id)


def storage_that_tells(
    study: optuna.Study, best: Callable[[], FrozenTrial | None], attributes: Callable[[], dict[str, Any]]
) -> tuple[BaseStorage, int]:
    """Return a study's storage, which tells from now on other things of it, and the study's number there.

    Args:
        study: opened to be read only, and for nothing else than this.
        best: returns what the storage is to tell for the best trial; None for its own.
        attributes: returns what it is to tell besides the study's system attributes.
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

    storage.get_best_trial = get_best_trial  # type: ignore[method-assign]  # of this one storage
    storage.get_all_studies = get_all_studies  # type: ignore[method-assign]
    return storage, number
