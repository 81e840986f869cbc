"""Entries of the experiment log: what is recorded of a model, and which earlier model it is compared with."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from huetune.data_tools.common.errors import CheckpointError, NoTrialError
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.photos.source import Source
from huetune.model.checkpoint import read_checkpoint, read_epoch_log
from huetune.model.checkpoint_format import Checkpoint
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.analysis.replicates import Replicates, replicates_by_config, replicates_of
from huetune.results.analysis.winner import Winner, winner_of
from huetune.results.evaluation.final_check import FinalCheck
from huetune.results.evaluation.final_check import read_or_none as read_final_check
from huetune.results.records.baseline import baseline_note
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables.trial_table import rows

DEFAULT_TOP = 3
"""Number of best trials of a run in its log, in addition to its presets."""


@dataclass(frozen=True)
class PhotosToTest:
    """Photos that no model of an experiment log was trained or ranked with.

    Attributes:
        photos: n of them.
        truth: their colors, uint8 [n, 112, 112, 3].
    """

    photos: PhotoSet
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A model in the experiment log.

    Attributes:
        key: anchor of links to the entry, and the name of the folder of its pictures; unique in a log.
        name: name of the model in the experiment log.
        started: when the training started, with time zone; None if that is not recorded.
        config: settings of the model.
        seed: seed of the training.
        state: complete, pruned, failed, running or interrupted.
        target: number of epochs of a complete training.
        epochs: metrics of each finished epoch, in order; for an export, of the best epoch only.
        has_all_epochs: whether `epochs` has every finished epoch.
        best: metrics of the best epoch, whose weights are the checkpoint.
        objective: metric that chose the best epoch, a key of `model.metrics.METRICS`.
        checkpoint: folder of the weights.
        photos: counts of the splits and the fingerprint, as in `Split.summary`.
        source: folder or run that the photos are from; None for the synthetic garden.
        took_first_photos: whether the training photos are the first of the source, not drawn by a seed.
        replicate_scores: scores of replicates of the configuration; empty if there are none.
        baseline: score of the mean-color baseline; None if it is not recorded, so that only the skill can be judged.
        is_winner: whether the model is the winner of its search.
        checkpoint_replicate: seed and score of the replicate whose checkpoint represents the winner; None if the
            winner's own checkpoint does.
        trial_reference: place of the run and number of the trial, as arguments of `huetune compare`; None for models
            that were not trained by a search.
        error: why the training failed; None if it did not.
        final_check: final check of the search, if the search made it with this configuration.
    """

    key: str
    name: str
    started: datetime | None
    config: Config
    seed: int
    state: str
    target: int
    epochs: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    objective: str
    checkpoint: Path
    photos: Mapping[str, Any]
    source: str | None
    took_first_photos: bool = False
    replicate_scores: tuple[float, ...] = ()
    baseline: float | None = None
    is_winner: bool = False
    checkpoint_replicate: tuple[int | None, float] | None = None
    trial_reference: tuple[str, str] | None = None
    has_all_epochs: bool = True
    error: str | None = None
    final_check: FinalCheck | None = None

    @property
    def score(self) -> float:
        """The objective at the best epoch."""
        return self.best[self.objective]

    @property
    def baseline_note(self) -> str | None:
        """The note of a training that stayed at the mean-color baseline, as in the trial table; None for others.

        Also None for an export whose best epoch was chosen by another metric than the skill: the skill of its other
        epochs is not recorded.
        """
        known = self.has_all_epochs or self.objective in ("chroma_mse", "skill")
        return baseline_note(self.state, self.epochs, self.target) if known else None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings but the seed, by name."""
        return {**asdict(self.config), "epochs": self.target}

    @property
    def structure(self) -> tuple[Any, ...]:
        """The settings that determine the layers and their sizes."""
        return self.config.skip, self.config.merge_units, self.config.positions

    def comparable_earlier(self, entries: Iterable["Entry"]) -> list["Entry"]:
        """Return the earlier complete entries with the same photos and the same objective, newest first."""
        earlier = [
            entry
            for entry in entries
            if entry.state == "complete"
            and entry.started
            and self.started
            and entry.started < self.started
            and entry.objective == self.objective
            and entry.photos["fingerprint"] == self.photos["fingerprint"]
        ]
        return sorted(earlier, key=_start, reverse=True)

    def most_similar_earlier(self, entries: Iterable["Entry"]) -> "Entry | None":
        """Return the comparable earlier entry with the most similar settings; None if there is none.

        That is the entry with the fewest different settings; among several, the one whose values are closest by their
        ratio; among equals, the newest, as the hand-kept experiment log compared each model with the one before.
        """

        def distance(other: Entry) -> tuple[int, float]:
            pairs = [(self.settings[name], other.settings[name]) for name in changed_settings(self, other)]
            return len(pairs), sum(_distance(*pair) for pair in pairs)

        return min(self.comparable_earlier(entries), key=distance, default=None)

    def latest_with_comparable_loss(self, entries: Iterable["Entry"]) -> "Entry | None":
        """Return the newest comparable earlier entry with the same MSE weight and number of epochs; None without one.

        The training loss contains the MSE weight, so other losses cannot be compared. The hand-kept experiment log
        compared the loss of model-3 (weight 4.0) with that of model-1 (4.0), and that of model-2 (2.5) with none.
        """

        def key(entry: Entry) -> tuple[float, int]:
            return entry.config.mse_weight, len(entry.epochs)

        if not self.has_all_epochs:
            return None
        earlier = (entry for entry in self.comparable_earlier(entries) if entry.has_all_epochs)
        return next((entry for entry in earlier if key(entry) == key(self)), None)


def changed_settings(entry: Entry, other: Entry) -> list[str]:
    """Return the names of the settings in which two entries differ."""
    return [name for name, value in entry.settings.items() if value != other.settings[name]]


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of the experiment log; entries without a start time come last."""
    return sorted(entries, key=_start, reverse=True)


def _start(entry: Entry) -> datetime:
    return entry.started or datetime.min.replace(tzinfo=UTC)


def _distance(value: Any, other: Any) -> float:
    """Return the absolute log ratio of two numbers; 1, as for a factor of e, for other values that differ."""
    are_numbers = not any(isinstance(one, (bool, str)) for one in (value, other))
    return abs(math.log(value / other)) if are_numbers and value > 0 and other > 0 else 1.0


def entries_of_run(run: Run, top: int = DEFAULT_TOP, numbers: Sequence[int] = ()) -> list[Entry]:
    """Return entries for trials of a run: the best complete trials and the presets, or the trials with given numbers.

    Args:
        run: run of a search.
        top: number of best trials, 0 or more.
        numbers: numbers of trials; empty for the best trials and the presets.

    Raises:
        NoTrialError: a requested trial does not exist or has finished no epoch, or the run has no complete trial.
    """
    study, replicates = run.snapshot()
    table = rows(study, replicates)
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False) if TrialRecord.of(trial).epochs}
    for number in numbers:
        if number not in trials:
            raise NoTrialError(f"run {run.name!r} has no trial {number} with a finished epoch")
    if not numbers:
        best = [row["trial"] for row in table if row["state"] == "complete"][:top]
        numbers = [*best, *(number for number, trial in trials.items() if TrialRecord.of(trial).preset)]
    if not numbers:
        raise NoTrialError(f"run {run.name!r} has no complete trial; see its trials with: {run.command('trials')}")
    groups, winner = replicates_by_config(replicates), winner_of(study, replicates)
    entries = [_entry_of_trial(run, trials[number], study, groups, winner) for number in dict.fromkeys(numbers)]
    check = read_final_check(run)
    return [
        replace(entry, final_check=check)
        if check and entry.trial_reference == (run.location, str(check.trial))
        else entry
        for entry in entries
    ]


def _entry_of_trial(
    run: Run, trial: FrozenTrial, study: optuna.Study, groups: Mapping[str, Replicates], winner: Winner | None
) -> Entry:
    searched = StudyRecord.of(study)
    objective = searched.objective
    record, photos = TrialRecord.of(trial), run.manifest["photos"]
    best, name = record.best_epoch(objective), f"trial {trial.number}"
    assert best and best.checkpoint and record.seed is not None
    group = replicates_of(trial, groups)
    is_winner = winner is not None and winner.number == trial.number
    replicate = winner if winner and is_winner and winner.training.is_replicate else None
    return Entry(
        key=f"{run.name}-trial-{trial.number}",
        name=f"{record.preset} ({name})" if record.preset else name,
        started=record.start,
        config=record.configuration,
        seed=record.seed,
        state=record.state,
        target=record.planned_epochs,
        epochs=[epoch.record for epoch in record.epochs],
        best=best.record,
        objective=objective,
        checkpoint=run.path(best.checkpoint),
        photos=photos,
        source=_source_name(photos.get("source"), run.name),
        replicate_scores=group.scores if group else (),
        baseline=searched.baseline[objective],
        is_winner=is_winner,
        checkpoint_replicate=(replicate.training.seed, replicate.score) if replicate else None,
        trial_reference=(run.location, str(trial.number)),
        error=str(record.failure) if record.failure else None,
    )


def _source_name(record: Mapping[str, Any] | None, default: str) -> str | None:
    """Return the folder of a recorded source of photos; None for the synthetic garden; the default without a record."""
    if record is None:
        return default
    source = Source.of(record)
    return str(source) if source.folder else None


def entry_of_checkpoint(folder: Path) -> Entry:
    """Return an entry for a model outside of a run: one that `huetune train` made, or an export.

    An export has the metrics of its best epoch only, and of its photos only the counts.

    Raises:
        CheckpointError: the checkpoint does not exist or is damaged.
    """
    checkpoint, log = read_checkpoint(folder), read_epoch_log(folder)
    origin, name = checkpoint.origin, folder.resolve().name
    trained: list[Mapping[str, Any]] = [*log] or [checkpoint.metrics]
    target, started, objective = _training_of(folder, checkpoint, trained)
    return Entry(
        key=re.sub(r"[^A-Za-z0-9._-]+", "-", name),
        name=name if origin.get("preset") in (None, name) else f"{name} ({origin['preset']})",
        started=started,
        config=checkpoint.config,
        seed=checkpoint.seed,
        state="complete" if not log or len(log) == target else "interrupted",
        target=target,
        epochs=trained,
        best=checkpoint.metrics,
        objective=objective,
        checkpoint=folder,
        photos=checkpoint.photos,
        source=_source_name(origin.get("source"), origin.get("run", name)),
        took_first_photos=bool(origin.get("first")),
        has_all_epochs=bool(log),
    )


def _training_of(
    folder: Path, checkpoint: Checkpoint, trained: Sequence[Mapping[str, Any]]
) -> tuple[int, datetime | None, str]:
    """Return the target epochs, the start and the objective that a checkpoint records of its training.

    An export of an older version does not record the target: the number of its last recorded epoch is returned.

    Raises:
        CheckpointError: the record is invalid.
    """
    origin = checkpoint.origin
    objective = origin.get("objective", "chroma_mse")
    try:
        target = origin["epochs"] if "epochs" in origin else trained[-1]["epoch"]
        started = datetime.fromisoformat(origin["begun"]).astimezone(UTC) if "begun" in origin else None
        needed = {"epoch", "boxes", "seconds", "train_loss", "skill", objective}
        counts = [target, *(checkpoint.photos.get(part, 0) for part in ("training", "validation", "test"))]
        if objective not in METRICS.objectives:
            raise ValueError(f"unknown objective {objective!r}")
        if "fingerprint" not in checkpoint.photos or {*map(type, counts)} != {int}:
            raise ValueError("epochs or counts of photos are missing or not integers")
        values = [metrics[name] for metrics in (*trained, checkpoint.metrics) for name in needed]
        if {*map(type, values)} - {int, float}:
            raise ValueError("a metric is not a number")
        return target, started, objective
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{str(folder)!r}: its record of the training is invalid ({error})") from None


def with_unique_names(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with unique keys and names: those of several runs get the name of the run, repeated ones a number.

    Args:
        entries: entries of one or several runs and folders.
    """
    runs = {entry.trial_reference[0] for entry in entries if entry.trial_reference}
    seen: dict[str, int] = {}
    found = []
    for entry in entries:
        name = entry.name
        if entry.trial_reference and len(runs) > 1:
            name = f"{Path(entry.trial_reference[0].partition('?')[0]).name}, {name}"
        number = seen[entry.key] = seen.get(entry.key, 0) + 1
        if number > 1:
            entry, name = replace(entry, key=f"{entry.key}-of-{number}"), f"{name} ({number})"
        found.append(replace(entry, name=name))
    return found
