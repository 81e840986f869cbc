"""What a study records of its trials and of itself, typed: the one module that reads and writes its user attributes.

Compatibility: a study of any released huetune is read. Whatever only newer ones record is optional.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from huetune.data_tools.common.errors import UserError
from huetune.model.config import Config
from huetune.model.metrics import METRICS, best_of, running_best
from huetune.results.records.baseline import note
from huetune.results.records.outcomes import Failure, Stop

STATES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}
EPOCH, DIGEST = "epoch-", "digest"
"""The key of an epoch's record, before its number; the key of the digest of an ended trial."""
TRAINING = "train_"
"""Begins the names of what is measured of the training itself: the loss, its parts and the time."""


@dataclass(frozen=True, eq=False)
class EpochMetrics(Mapping[str, float]):
    """A finished epoch of a training; as a mapping, what was measured of it: `seconds`, `train_loss`, the metrics.

    Attributes:
        epoch: its number, from 1 on.
        numbers: what was measured, by name.
        boxes: patches that were trained on; None where that is not recorded.
        checkpoint: the folder of its weights, in the run; None where an earlier epoch was better.
    """

    epoch: int
    numbers: Mapping[str, float]
    boxes: int | None = None
    checkpoint: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "EpochMetrics":
        """Read the record of an epoch."""
        numbers = {name: value for name, value in record.items() if name not in ("epoch", "boxes", "checkpoint")}
        return cls(record["epoch"], numbers, record.get("boxes"), record.get("checkpoint"))

    @classmethod
    def reported(cls, result: Mapping[str, Any]) -> "EpochMetrics":
        """Take from a result that a worker reported what a study records: of Tune's own entries none."""
        known = {"epoch", "boxes", "seconds", "checkpoint", *METRICS}
        return cls.of({name: result[name] for name in result if name in known or name.startswith(TRAINING)})

    @property
    def record(self) -> dict[str, Any]:
        """What a study stores."""
        boxes = {} if self.boxes is None else {"boxes": self.boxes}
        checkpoint = {} if self.checkpoint is None else {"checkpoint": self.checkpoint}
        return {"epoch": self.epoch, **boxes, **self.numbers, **checkpoint}

    @property
    def seconds(self) -> float:
        """That it took, its scoring included."""
        return self.numbers["seconds"]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def best_epoch_of(epochs: Sequence[EpochMetrics], objective: str) -> EpochMetrics | None:
    """Return the best epoch, whose weights are the checkpoint of a training; None before the first."""
    return best_of(objective, epochs, lambda epoch: epoch[objective])


def curve_of(epochs: Sequence[EpochMetrics], objective: str) -> dict[int, float]:
    """Return the best value so far after each epoch of a training, by the number of the epoch."""
    best = running_best(objective, epochs, lambda epoch: epoch[objective])
    return {epoch.epoch: its[objective] for epoch, its in zip(epochs, best, strict=True)}


def config_key(config: Mapping[str, Any]) -> str:
    """Return what two equal configurations share."""
    return json.dumps(dict(config), sort_keys=True)


@dataclass(frozen=True)
class TrialRecord:
    """What a study records of a trial, or of a replicate.

    Attributes:
        number: in its study.
        state: a word of `STATES`.
        params: the searched parameters, by name.
        config: the whole configuration, by the names of `Config`; None where it is not recorded.
        seed: that it trains from.
        target: the epochs that it is to train; None where an older huetune did not record them.
        preset: that it is, if it is one.
        continues: the number of the trial that it trains further.
        name: of a replicate, what is trained again.
        ray_trial: Tune's name of it.
        begun: when it began, ISO 8601 in UTC; an older huetune recorded local time with no offset, or nothing.
        host, pid: of the worker that began it.
        notes: warnings, in their order.
        deaths: why each worker was lost on which it ran.
        failure: why it failed.
        digest: of the trial as it ended, see `digest`.
        measured: the records of the epochs that it finished, in order; see `epochs`.
        reported: the last epoch that Optuna was told of.
        started, completed: Optuna's times: when it last went on, and when it ended, local without an offset.
    """

    number: int
    state: str
    params: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    seed: int | None = None
    target: int | None = None
    preset: str | None = None
    continues: int | None = None
    name: str | None = None
    ray_trial: str | None = None
    begun: str | None = None
    host: str | None = None
    pid: int | None = None
    notes: tuple[str, ...] = ()
    deaths: tuple[Failure, ...] = ()
    failure: Failure | None = None
    digest: str | None = None
    measured: tuple[Mapping[str, Any], ...] = ()
    reported: int | None = None
    started: datetime | None = None
    completed: datetime | None = None

    @classmethod
    def of(cls, trial: optuna.Trial | FrozenTrial) -> "TrialRecord":
        """Read a trial; one that this process runs is running."""
        stored = trial.user_attrs
        frozen = trial if isinstance(trial, FrozenTrial) else None
        measured = sorted(
            (record for key, record in stored.items() if key.startswith(EPOCH)), key=lambda record: record["epoch"]
        )
        # Released huetune stored a sentence in "error".
        failure = stored.get("failure") or stored.get("error")
        return cls(
            number=trial.number,
            state=STATES[frozen.state] if frozen else "running",
            params=trial.params,
            **{name: stored.get(name) for name in _PLAIN},
            notes=tuple(stored.get("notes", ())),
            deaths=tuple(map(Failure.of, stored.get("deaths", ()))),
            failure=Failure.of(failure) if failure else None,
            measured=tuple(measured),
            reported=frozen.last_step if frozen else None,
            started=trial.datetime_start,
            completed=frozen.datetime_complete if frozen else None,
        )

    @property
    def attributes(self) -> dict[str, Any]:
        """What a study stores of it in user attributes."""
        fields = {name: getattr(self, name) for name in (*_PLAIN, *_FORMS)}
        return _stored({name: value for name, value in fields.items() if value not in (None, ())}) | {
            f"{EPOCH}{record['epoch']}": dict(record) for record in self.measured
        }

    @cached_property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """The epochs that it finished, in order."""
        return tuple(map(EpochMetrics.of, self.measured))

    def best(self, objective: str) -> EpochMetrics | None:
        """Return its best epoch, whose weights are its checkpoint; None before the first."""
        return best_epoch_of(self.epochs, objective)

    def curve(self, objective: str) -> dict[int, float]:
        """Return the best value so far after each of its epochs."""
        return curve_of(self.epochs, objective)

    @property
    def configuration(self) -> Config:
        """Its configuration.

        Raises:
            UserError: it is of another huetune, or not recorded.
        """
        if self.config is None:
            raise UserError(f"trial {self.number}: the study does not record its configuration")
        return Config.of(self.config)

    @property
    def key(self) -> str:
        """What trials of equal configurations share."""
        return config_key(self.config or {})

    @property
    def full_epochs(self) -> int:
        """The epochs that it was to train; where an older huetune did not record them, those that it did."""
        return self.target or self.reported or 0

    @property
    def note(self) -> str | None:
        """Its note where it is still at the mean-color baseline after its grace; None for any other."""
        return note(self.state, self.epochs, self.target)

    @property
    def display_name(self) -> str:
        """Its number, or of a replicate what is repeated and from which seed."""
        return f"{self.name} again, seed {self.seed}" if self.name else f"trial {self.number}"

    @property
    def start(self) -> datetime | None:
        """When it began, in UTC; None where it has not."""
        # Optuna stores UTC and returns local time without an offset, of when the trial last went on.
        last = self.started and self.started.astimezone(UTC)
        if not self.begun:
            return last
        begun = datetime.fromisoformat(self.begun)
        if begun.tzinfo is None and last:
            # An older huetune's local time, of a zone that nobody knows any more.
            return min(begun.astimezone(UTC), last)
        return begun.astimezone(UTC)

    @property
    def end(self) -> datetime | None:
        """When it ended, in UTC and not before it began; None where it has not."""
        start, local = self.start, self.completed
        if local is None or start is None:
            return local and local.astimezone(UTC)
        # Of an hour that the clock shows twice when summer time ends, Optuna does not say which one it means.
        ends = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
        return next((end for end in ends if end >= start), start)


_PLAIN = (
    *("config", "seed", "target", "preset", "continues", "name", "ray_trial"),
    *("begun", "host", "pid", "digest"),
)
"""Fields of a `TrialRecord` that are stored as they are, under their own names."""
_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "notes": list,
    "deaths": lambda deaths: [death.record for death in deaths],
    "failure": lambda failure: failure.record,
}
"""How the others are stored."""


def _stored(fields: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := fields.keys() - {*_PLAIN, *_FORMS}:
        raise TypeError(f"a trial records no {', '.join(sorted(unknown))}")
    return {name: _FORMS[name](value) if name in _FORMS else value for name, value in fields.items()}


def write_trial(trial: optuna.Trial, **fields: Any) -> None:
    """Record fields of a running trial, by the names and types of `TrialRecord`."""
    for name, value in _stored(fields).items():
        trial.set_user_attr(name, value)


def write_epoch(trial: optuna.Trial, epoch: EpochMetrics) -> None:
    """Record an epoch of a running trial."""
    trial.set_user_attr(f"{EPOCH}{epoch.epoch}", epoch.record)


def begun_trial(record: TrialRecord, domains: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return a trial for a study to add, which begins with all that is recorded of it."""
    return create_trial(
        state=TrialState.RUNNING,
        params=dict(record.params),
        distributions={name: domains[name] for name in record.params},
        user_attrs=record.attributes,
    )


def digest(trial: FrozenTrial, state: TrialState | None = None, values: Sequence[float] | None = None) -> str:
    """Return a sha256 over all that was measured of a trial and set for it, so that no change goes unseen.

    Args:
        trial: running or ended.
        state: that it is about to end in; None for one that has ended.
        values: that it is about to end with.
    """
    state, values = (trial.state, trial.values) if state is None else (state, values)
    # Of a trial that is not complete Optuna takes the last epoch's value.
    last = [state.name, values if state == TrialState.COMPLETE else None]
    attributes = {name: value for name, value in trial.user_attrs.items() if name != DIGEST}
    content = [trial.number, trial.params, attributes, sorted(trial.intermediate_values.items()), *last]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Asked:
    """What a study is to hold in the end.

    Attributes:
        trials: how many; None where an older huetune did not record it.
        epochs: of a complete trial.
        time_budget: seconds of searching after which no more trials are started; None for as long as it takes.
        stop_when_flat: trials in a row without a better one that end the search; None for however many.
        further: the numbers of the trials that are trained further.
    """

    trials: int | None
    epochs: int
    time_budget: float | None = None
    stop_when_flat: int | None = None
    further: tuple[int, ...] = ()


@dataclass(frozen=True)
class Session:
    """A search that runs.

    Attributes:
        slots: how many trials may run at once.
        since: when that was so, in seconds of the epoch.
        spent: seconds that were searched until then.
    """

    slots: int
    since: float
    spent: float


@dataclass(frozen=True)
class End:
    """Why a search started no more trials, and the budget that it had then, which an extension raises.

    Attributes:
        stop: the reason.
        trials: that were asked for.
        epochs: of a complete trial.
    """

    stop: Stop
    trials: int
    epochs: int


@dataclass(frozen=True)
class StudyRecord:
    """What a study records of its search; the study of replicates records a part of it.

    Attributes:
        objectives: keys of `METRICS`; the first one is the score.
        parameters: the names of what is searched.
        baseline: the metrics of the mean-color baseline.
        asked: what it is to hold in the end.
        end: why it ended, when it did.
        seconds: that were searched; None where nothing was yet.
        session: of the process that searches, or of the last one.
        finalists: of replicates, the numbers of the trials that are candidates.
    """

    objectives: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict)
    asked: Asked = Asked(None, 0)
    end: End | None = None
    seconds: float | None = None
    session: Session | None = None
    finalists: tuple[int, ...] = ()

    @classmethod
    def of(cls, study: optuna.Study) -> "StudyRecord":
        """Read a study."""
        stored = study.user_attrs
        first = [stored["objective"]] if "objective" in stored else []
        # Older studies recorded the epochs alone.
        asked = stored.get("asked") or {"trials": None, "epochs": stored.get("epochs", 0)}
        end, session = stored.get("ended"), stored.get("session")
        return cls(
            objectives=tuple(stored.get("objectives", first)),
            parameters=tuple(stored.get("parameters", ())),
            baseline=stored.get("zero_line", {}),
            asked=Asked(
                asked.get("trials"),
                asked.get("epochs", 0),
                asked.get("time_budget"),
                asked.get("stop_when_flat"),
                tuple(asked.get("further", ())),
            ),
            end=End(Stop.of(end), end.get("trials"), end.get("epochs")) if end else None,
            seconds=stored.get("seconds"),
            session=Session(session["slots"], session["since"], session["spent"]) if session else None,
            finalists=tuple(stored.get("finalists", ())),
        )

    @property
    def objective(self) -> str:
        """The metric that is the score."""
        return self.objectives[0]

    @property
    def ended(self) -> Stop | None:
        """Why the search started no more trials; None where it did not come so far, or was extended since."""
        current = self.end and (self.end.trials, self.end.epochs) == (self.asked.trials, self.asked.epochs)
        return self.end.stop if self.end and current else None


_STUDY_FORMS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "objectives": lambda objectives: {"objective": objectives[0], "objectives": list(objectives)},
    "parameters": lambda parameters: {"parameters": list(parameters)},
    "baseline": lambda baseline: {"zero_line": dict(baseline)},
    "asked": lambda asked: {"asked": {**asdict(asked), "further": list(asked.further)}},
    "end": lambda end: {
        "ended": end and {**end.stop.record, "trials": end.trials, "epochs": end.epochs},
    },
    "seconds": lambda seconds: {"seconds": seconds},
    "session": lambda session: {"session": asdict(session)},
    "finalists": lambda finalists: {"finalists": list(finalists)},
}
"""How each field of a `StudyRecord` is stored: by which user attributes."""


def write_study(study: optuna.Study, **fields: Any) -> None:
    """Record fields of a study, by the names and types of `StudyRecord`."""
    for name, value in fields.items():
        for key, stored in _STUDY_FORMS[name](value).items():
            study.set_user_attr(key, stored)


def write_launch(study: optuna.Study, record: StudyRecord) -> None:
    """Record what is known of a study when its search is launched."""
    write_study(
        study,
        objectives=record.objectives,
        parameters=record.parameters,
        baseline=record.baseline,
        asked=record.asked,
    )
    # What studies held before there was `asked`; an older huetune reads it.
    study.set_user_attr("epochs", record.asked.epochs)
