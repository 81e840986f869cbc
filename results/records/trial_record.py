"""The record of a trial, or of a replicate, in its Optuna study.

`TrialRecord`, `write_trial` and `write_epoch` are the only code that reads and writes the user attributes of a trial.
Compatibility: trials of every released version can be read, so whatever only newer versions record is optional.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from huetune.data_tools.common.errors import UserError
from huetune.model.config import Config, with_current_names
from huetune.results.records.baseline import baseline_note
from huetune.results.records.epoch_metrics import EpochMetrics, best_epoch, best_so_far
from huetune.results.records.outcomes import Failure

STATES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "interrupted",
}
"""Name of each of Optuna's states in tables and texts."""
ENDED_STATES = ("complete", "pruned", "failed")
EPOCH_PREFIX = "epoch-"
"""Key of an epoch's record, before the number of the epoch."""
DIGEST_KEY = "digest"
"""Key of the digest of an ended trial."""


def config_key(config: Mapping[str, Any]) -> str:
    """Return a key that is the same for equal configurations."""
    return json.dumps(dict(config), sort_keys=True)


@dataclass(frozen=True)
class TrialRecord:
    """What a study records of a trial, or of a replicate.

    Attributes:
        number: number in its study.
        state: a value of `STATES`.
        params: searched parameters by name.
        config: the whole configuration, by the names of `Config`; None where it is not recorded.
        seed: random seed of the training.
        target: number of epochs to train; None where an older version did not record it.
        preset: name of the preset, if the configuration is one.
        continues: number of the trial that this one trains further.
        name: in a study of replicates, the name of what is trained again.
        ray_trial: name of the trial in Ray Tune.
        begun: when the trial began, ISO 8601 in UTC. Older versions recorded local time without an offset, or
            nothing.
        host: name of the machine of the worker that began it.
        pid: process id of that worker.
        notes: warnings, in order.
        deaths: why each of its lost workers was lost.
        failure: why it failed.
        digest: digest of the trial as it ended, see `digest`.
        measured: stored records of its finished epochs, in order; see `epochs`.
        reported: last epoch that was reported to Optuna.
        started: when Optuna last set the trial running, local time without an offset.
        completed: when the trial ended, local time without an offset.
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
        """Read the record of a trial; an open `optuna.Trial` counts as running."""
        stored = trial.user_attrs
        frozen = trial if isinstance(trial, FrozenTrial) else None
        measured = sorted(
            (record for key, record in stored.items() if key.startswith(EPOCH_PREFIX)),
            key=lambda record: record["epoch"],
        )
        plain = {name: stored.get(name) for name in _PLAIN}
        if plain["config"]:
            plain["config"] = with_current_names(plain["config"])
        # Released versions stored a sentence in "error".
        failure = stored.get("failure") or stored.get("error")
        return cls(
            number=trial.number,
            state=STATES[frozen.state] if frozen else "running",
            params=trial.params,
            **plain,
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
        """The user attributes that store the record in a study."""
        fields = {name: getattr(self, name) for name in (*_PLAIN, *_FORMS)}
        return _stored({name: value for name, value in fields.items() if value not in (None, ())}) | {
            f"{EPOCH_PREFIX}{record['epoch']}": dict(record) for record in self.measured
        }

    @cached_property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """The finished epochs, in order."""
        return tuple(map(EpochMetrics.of, self.measured))

    def best_epoch(self, objective: str) -> EpochMetrics | None:
        """Return the epoch with the best objective, whose weights are the checkpoint; None before the first epoch."""
        return best_epoch(self.epochs, objective)

    def best_so_far(self, objective: str) -> dict[int, float]:
        """Return the best value of the objective up to each epoch, by the number of the epoch."""
        return best_so_far(self.epochs, objective)

    @property
    def configuration(self) -> Config:
        """The configuration.

        Raises:
            UserError: the configuration is not recorded, or another version of huetune made it.
        """
        if self.config is None:
            raise UserError(f"trial {self.number}: the study does not record its configuration")
        return Config.of(self.config)

    @property
    def key(self) -> str:
        """A key that is the same for trials of equal configurations."""
        return config_key(self.config or {})

    @property
    def planned_epochs(self) -> int:
        """Number of epochs to train; where an older version did not record it, the number that it trained."""
        return self.target or self.reported or 0

    @property
    def note(self) -> str | None:
        """AT_BASELINE if the trial is still at the mean-color baseline after its grace period, otherwise None."""
        return baseline_note(self.state, self.epochs, self.target)

    @property
    def display_name(self) -> str:
        """Name for people: the number of a trial; of a replicate, what is trained again and the seed."""
        return f"{self.name} again, seed {self.seed}" if self.name else f"trial {self.number}"

    @property
    def start(self) -> datetime | None:
        """When the trial began, in UTC; None if it has not begun."""
        # Optuna stores UTC and returns local time without an offset: when the trial was last set running.
        last = self.started and self.started.astimezone(UTC)
        if not self.begun:
            return last
        begun = datetime.fromisoformat(self.begun)
        if begun.tzinfo is None and last:
            # Older versions stored local time; its time zone is unknown.
            return min(begun.astimezone(UTC), last)
        return begun.astimezone(UTC)

    @property
    def end(self) -> datetime | None:
        """When the trial ended, in UTC and not before it began; None if it has not ended."""
        start, local = self.start, self.completed
        if local is None or start is None:
            return local and local.astimezone(UTC)
        # When summer time ends, an hour occurs twice, and Optuna's time does not tell which one is meant.
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
"""Function that turns each of the other fields into what is stored."""


def _stored(fields: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := fields.keys() - {*_PLAIN, *_FORMS}:
        raise TypeError(f"a trial records no {', '.join(sorted(unknown))}")
    return {name: _FORMS[name](value) if name in _FORMS else value for name, value in fields.items()}


def write_trial(trial: optuna.Trial, **fields: Any) -> None:
    """Record fields of a running trial, with the names and types of `TrialRecord`."""
    for name, value in _stored(fields).items():
        trial.set_user_attr(name, value)


def write_epoch(trial: optuna.Trial, epoch: EpochMetrics) -> None:
    """Record a finished epoch of a running trial."""
    trial.set_user_attr(f"{EPOCH_PREFIX}{epoch.epoch}", epoch.record)


def running_trial(record: TrialRecord, domains: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return a running trial with its whole record, to be added to a study in one step.

    Args:
        record: the record of the trial.
        domains: Optuna's distribution of each searched parameter, by name.
    """
    return create_trial(
        state=TrialState.RUNNING,
        params=dict(record.params),
        distributions={name: domains[name] for name in record.params},
        user_attrs=record.attributes,
    )


def digest(trial: FrozenTrial, state: TrialState | None = None, values: Sequence[float] | None = None) -> str:
    """Return a sha256 digest of the parameters, attributes and values of a trial, which detects later changes.

    Args:
        trial: a running or ended trial.
        state: the state that a running trial is about to end in; None for an ended trial.
        values: the values that a running trial is about to end with.
    """
    state, values = (trial.state, trial.values) if state is None else (state, values)
    # For a trial that is not complete, Optuna takes the value of the last epoch.
    last = [state.name, values if state == TrialState.COMPLETE else None]
    attributes = {name: value for name, value in trial.user_attrs.items() if name != DIGEST_KEY}
    content = [trial.number, trial.params, attributes, sorted(trial.intermediate_values.items()), *last]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_trial(study: optuna.Study, number: int) -> FrozenTrial | None:
    """Return the trial with a number; None if the study has no such trial."""
    return next((trial for trial in study.get_trials(deepcopy=False) if trial.number == number), None)
