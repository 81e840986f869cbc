"""The record of a search in its Optuna study: objectives, budget, baseline, running time and stop reason.

`StudyRecord` and `write_study` are the only code that reads and writes the user attributes of a study. Compatibility:
studies of every released version can be read, so whatever only newer versions record is optional.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.results.records.outcomes import Stop
from huetune.results.records.trial_record import TrialRecord


@dataclass(frozen=True)
class RequestedBudget:
    """The size of a search as the user requested it.

    Attributes:
        trials: number of trials; None where an older version did not record it.
        epochs: number of epochs of a complete trial.
        time_budget: seconds of searching after which no more trials start; None for no limit.
        stop_when_flat: number of consecutive trials without improvement that end the search; None for no limit.
        further: numbers of the trials that are trained further.
    """

    trials: int | None
    epochs: int
    time_budget: float | None = None
    stop_when_flat: int | None = None
    further: tuple[int, ...] = ()


@dataclass(frozen=True)
class Session:
    """The present or last process that searches.

    Attributes:
        slots: number of trials that may run at the same time.
        since: Unix time of this record, in seconds.
        spent: seconds that had been searched until then.
    """

    slots: int
    since: float
    spent: float


@dataclass(frozen=True)
class End:
    """The end of a search, with the budget that it had then and that an extension raises.

    Attributes:
        stop: why no more trials were started.
        trials: requested number of trials.
        epochs: number of epochs of a complete trial.
    """

    stop: Stop
    trials: int
    epochs: int


@dataclass(frozen=True)
class StudyRecord:
    """What a study records of its search. The study of replicates records only a part of it.

    Attributes:
        objectives: keys of `METRICS`; the first one gives the score.
        parameters: names of the searched parameters.
        baseline: metrics of the mean-color baseline.
        requested: the requested budget.
        end: the end of the search; None while it has not ended.
        seconds: time that has been searched; None before the first session.
        session: the process that searches, or the last one.
        finalists: in a study of replicates, the numbers of the trials that compete.
    """

    objectives: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict)
    requested: RequestedBudget = RequestedBudget(None, 0)
    end: End | None = None
    seconds: float | None = None
    session: Session | None = None
    finalists: tuple[int, ...] = ()

    @classmethod
    def of(cls, study: optuna.Study) -> "StudyRecord":
        """Read the record of a study."""
        stored = study.user_attrs
        first = [stored["objective"]] if "objective" in stored else []
        # Studies of the first schema recorded only the number of epochs.
        requested = stored.get("asked") or {"trials": None, "epochs": stored.get("epochs", 0)}
        end, session = stored.get("ended"), stored.get("session")
        return cls(
            objectives=tuple(stored.get("objectives", first)),
            parameters=tuple(stored.get("parameters", ())),
            baseline=stored.get("zero_line", {}),
            requested=RequestedBudget(
                requested.get("trials"),
                requested.get("epochs", 0),
                requested.get("time_budget"),
                requested.get("stop_when_flat"),
                tuple(requested.get("further", ())),
            ),
            end=End(Stop.of(end), end.get("trials"), end.get("epochs")) if end else None,
            seconds=stored.get("seconds"),
            session=Session(session["slots"], session["since"], session["spent"]) if session else None,
            finalists=tuple(stored.get("finalists", ())),
        )

    @property
    def objective(self) -> str:
        """The metric that gives the score."""
        return self.objectives[0]

    @property
    def ended(self) -> Stop | None:
        """Why the search stopped; None if it has not stopped, or has been extended since."""
        current = self.end and (self.end.trials, self.end.epochs) == (self.requested.trials, self.requested.epochs)
        return self.end.stop if self.end and current else None


# The stored keys "asked", "ended" and "zero_line" are older than the names of the fields. They are part of the stored
# schema, so they stay.
_STORED_FORMS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "objectives": lambda objectives: {"objective": objectives[0], "objectives": list(objectives)},
    "parameters": lambda parameters: {"parameters": list(parameters)},
    "baseline": lambda baseline: {"zero_line": dict(baseline)},
    "requested": lambda requested: {"asked": {**asdict(requested), "further": list(requested.further)}},
    "end": lambda end: {
        "ended": end and {**end.stop.record, "trials": end.trials, "epochs": end.epochs},
    },
    "seconds": lambda seconds: {"seconds": seconds},
    "session": lambda session: {"session": asdict(session)},
    "finalists": lambda finalists: {"finalists": list(finalists)},
}
"""Function that turns each field of a `StudyRecord` into the user attributes that store it."""


def write_study(study: optuna.Study, **fields: Any) -> None:
    """Record fields of a study, with the names and types of `StudyRecord`."""
    for name, value in fields.items():
        for key, stored in _STORED_FORMS[name](value).items():
            study.set_user_attr(key, stored)


def write_launch(study: optuna.Study, record: StudyRecord) -> None:
    """Record what is known of a study when its search is launched."""
    write_study(
        study,
        objectives=record.objectives,
        parameters=record.parameters,
        baseline=record.baseline,
        requested=record.requested,
    )
    # Versions of huetune that do not know the key "asked" read this one.
    study.set_user_attr("epochs", record.requested.epochs)


def fully_trained(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Return the complete trials that were trained for all requested epochs, by number.

    A trial that was complete before its search was extended to more epochs is not among them.
    """
    epochs = StudyRecord.of(study).requested.epochs
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.number: trial for trial in trials if TrialRecord.of(trial).planned_epochs >= epochs}
