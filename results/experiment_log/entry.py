"""Entries of the log: what is known of one model, and which earlier one it is compared with."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from huetune.data_tools.common.errors import CheckpointError, NoTrialError
from huetune.data_tools.photos.source import Source
from huetune.model.checkpoint import Checkpoint, log_of, read
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.analysis.replicates import Replicates, replicates_by_config, replicates_of
from huetune.results.analysis.winner import Winner, winner_of
from huetune.results.evaluation.final_check import FinalCheck
from huetune.results.evaluation.final_check import read_or_none as final_check
from huetune.results.records.baseline import note
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables.trial_table import rows

TOP = 3
"""Best trials in the log of a search, besides its presets, unless told otherwise."""


@dataclass(frozen=True)
class Entry:
    """A model in the log.

    Attributes:
        key: of links to it and of the folder of its pictures.
        name: what the log calls it.
        begun: when its training began, UTC; None where nobody wrote it down.
        config: its settings.
        seed: that it was trained from.
        state: complete, pruned, failed, running, waiting or interrupted.
        target: epochs that it was to train.
        epochs: the figures of each that it did, in order; of an export those of the best one alone.
        whole: whether these are all.
        best: the figures of the one whose weights are kept.
        objective: that says which one that is, a key of `model.metrics.METRICS`.
        checkpoint: the folder of these weights.
        photos: how many, and their fingerprint, as `Split.summary`.
        source: of the photos, in words.
        first: whether it learned from the first ones of the source, not from those that a seed chose.
        again: the scores of its settings from fresh seeds; empty where it was not trained again.
        baseline: the score of the mean-color baseline; None where only the skill tells.
        winner: whether it is the winner of its search.
        used: seed and score of the replicate whose checkpoint is used for the winner; None where that is its own.
        known_as: the run's place, and the number of the trial in it, for `huetune compare`; None without a search.
        error: why it failed.
        check: the final check of its search, if that was of this model's configuration.
    """

    key: str
    name: str
    begun: datetime | None
    config: Config
    seed: int
    state: str
    target: int
    epochs: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    objective: str
    checkpoint: Path
    photos: Mapping[str, Any]
    source: str
    first: bool = False
    again: tuple[float, ...] = ()
    baseline: float | None = None
    winner: bool = False
    used: tuple[int | None, float] | None = None
    known_as: tuple[str, str] | None = None
    whole: bool = True
    error: str | None = None
    check: FinalCheck | None = None

    @property
    def score(self) -> float:
        """That of its best epoch."""
        return self.best[self.objective]

    @property
    def note(self) -> str | None:
        """Whether it is still at the mean-color baseline after its grace, as the trial table says it.

        None also for an export whose best epoch was not chosen by its skill: that of the others is not known.
        """
        known = self.whole or self.objective in ("chroma_mse", "skill")
        return note(self.state, self.epochs, self.target) if known else None

    @property
    def settings(self) -> dict[str, Any]:
        """All that was chosen for it, the seed aside."""
        return {**asdict(self.config), "epochs": self.target}

    @property
    def layers(self) -> tuple[Any, ...]:
        """What entries have in common that have the same layers of the same sizes."""
        return self.config.skip, self.config.merge_units, self.config.positions

    def earlier(self, entries: Iterable["Entry"]) -> list["Entry"]:
        """Return those entries that this one can be compared with, the newest first: complete, on the same photos."""
        before = [
            entry
            for entry in entries
            if entry.state == "complete"
            and entry.begun
            and self.begun
            and entry.begun < self.begun
            and entry.objective == self.objective
            and entry.photos["fingerprint"] == self.photos["fingerprint"]
        ]
        return sorted(before, key=_begun, reverse=True)

    def compared_with(self, entries: Iterable["Entry"]) -> "Entry | None":
        """Return the entry that this one is compared with: the earlier one that differs least.

        That is the one with the fewest other settings, then the one whose numbers are nearest, by their ratio, and of
        several such the newest, as the hand-kept log compared each model with the one before. None for the first.
        """

        def distance(other: Entry) -> tuple[int, float]:
            pairs = [(self.settings[name], other.settings[name]) for name in changed(self, other)]
            return len(pairs), sum(_apart(*pair) for pair in pairs)

        return min(self.earlier(entries), key=distance, default=None)

    def of_equal_weight(self, entries: Iterable["Entry"]) -> "Entry | None":
        """Return the newest earlier entry with the same MSE weight and as many epochs; None without.

        The loss contains the weight, so only their losses can be compared: the hand-kept log held model-3, of weight
        4.0, against model-1, of weight 4.0, and model-2, of weight 2.5, against none.
        """

        def comparable(entry: Entry) -> tuple[float, int]:
            return entry.config.mse_weight, len(entry.epochs)

        if not self.whole:
            return None
        before = (entry for entry in self.earlier(entries) if entry.whole)
        return next((entry for entry in before if comparable(entry) == comparable(self)), None)


def changed(entry: Entry, other: Entry) -> list[str]:
    """Return the names of the settings in which two entries differ."""
    return [name for name, value in entry.settings.items() if value != other.settings[name]]


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of the log."""
    return sorted(entries, key=_begun, reverse=True)


def _begun(entry: Entry) -> datetime:
    return entry.begun or datetime.min.replace(tzinfo=UTC)


def _apart(value: Any, other: Any) -> float:
    """How far two values of a setting are from each other: numbers by their ratio, all else by a factor of e."""
    numbers = not any(isinstance(one, (bool, str)) for one in (value, other))
    return abs(math.log(value / other)) if numbers and value > 0 and other > 0 else 1.0


def of_run(run: Run, top: int = TOP, numbers: Sequence[int] = ()) -> list[Entry]:
    """Return entries for trials of a search: the best complete ones and the presets, or those asked for.

    Args:
        run: of a search.
        top: how many of the best.
        numbers: of the trials asked for; none for the best and the presets.

    Raises:
        NoTrialError: one that was asked for is not there or has finished no epoch; or none is complete.
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
        raise NoTrialError(f"run {run.name!r} has no complete trial; see them with `{run.command('trials')}`")
    groups, won = replicates_by_config(replicates), winner_of(study, replicates)
    entries = [_of_trial(run, trials[number], study, groups, won) for number in dict.fromkeys(numbers)]
    check = final_check(run)
    return [
        replace(entry, check=check) if check and entry.known_as == (run.place, str(check.trial)) else entry
        for entry in entries
    ]


def _of_trial(
    run: Run, trial: FrozenTrial, study: optuna.Study, groups: Mapping[str, Replicates], won: Winner | None
) -> Entry:
    searched = StudyRecord.of(study)
    objective = searched.objective
    record, photos = TrialRecord.of(trial), run.manifest["photos"]
    best, name = record.best_epoch(objective), f"trial {trial.number}"
    assert best and best.checkpoint and record.seed is not None
    group = replicates_of(trial, groups)
    return Entry(
        key=f"{run.name}-trial-{trial.number}",
        name=f"{record.preset} ({name})" if record.preset else name,
        begun=record.start,
        config=record.configuration,
        seed=record.seed,
        state=record.state,
        target=record.planned_epochs,
        epochs=[epoch.record for epoch in record.epochs],
        best=best.record,
        objective=objective,
        checkpoint=run.path(best.checkpoint),
        photos=photos,
        source=str(Source.of(photos["source"])) if "source" in photos else run.name,
        again=group.scores if group else (),
        baseline=searched.baseline[objective],
        winner=(wins := won is not None and won.number == trial.number),
        used=(won.training.seed, won.score) if won and wins and won.training.is_replicate else None,
        known_as=(run.place, str(trial.number)),
        error=str(record.failure) if record.failure else None,
    )


def of_checkpoint(folder: Path) -> Entry:
    """Return an entry for a model outside of a run: one that `huetune train` made, or an export.

    Of an export only its best epoch is known; what is known of its photos is how many they were.

    Raises:
        CheckpointError: it is not there or damaged.
    """
    found, log = read(folder), log_of(folder)
    origin, name = found.origin, folder.resolve().name
    trained: list[Mapping[str, Any]] = [*log] or [found.figures]
    wanted, begun, objective = _origin(folder, found, trained)
    return Entry(
        key=re.sub(r"[^A-Za-z0-9._-]+", "-", name),
        name=name if origin.get("preset") in (None, name) else f"{name} ({origin['preset']})",
        begun=begun,
        config=found.config,
        seed=found.seed,
        state="complete" if not log or len(log) == wanted else "interrupted",
        target=wanted,
        epochs=trained,
        best=found.figures,
        objective=objective,
        checkpoint=folder,
        photos=found.photos,
        source=str(Source.of(origin["source"])) if "source" in origin else origin.get("run", name),
        first=bool(origin.get("first")),
        whole=bool(log),
    )


def _origin(folder: Path, found: Checkpoint, trained: Sequence[Mapping[str, Any]]) -> tuple[int, datetime | None, str]:
    """The epochs that a model was to train, when that began, and by what its best one was chosen.

    An export of an older huetune does not say how many: then as many as surely were.
    """
    origin = found.origin
    objective = origin.get("objective", "chroma_mse")
    try:
        epochs = origin["epochs"] if "epochs" in origin else trained[-1]["epoch"]
        begun = datetime.fromisoformat(origin["begun"]).astimezone(UTC) if "begun" in origin else None
        needed = {"epoch", "boxes", "seconds", "train_loss", "skill", objective}
        counts = [epochs, *(found.photos.get(part, 0) for part in ("training", "validation", "test"))]
        if objective not in METRICS.objectives or "fingerprint" not in found.photos or {*map(type, counts)} != {int}:
            raise ValueError("no objective, epochs or photos")
        if {type(figures[name]) for figures in (*trained, found.figures) for name in needed} - {int, float}:
            raise ValueError("a figure that is no number")
        return epochs, begun, objective
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{str(folder)!r}: what it says of its training makes no sense ({error})") from None


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries of several runs and folders with names of their own."""
    runs = {entry.known_as[0] for entry in entries if entry.known_as}
    seen: dict[str, int] = {}
    found = []
    for entry in entries:
        name = entry.name
        if entry.known_as and len(runs) > 1:
            name = f"{Path(entry.known_as[0].partition('?')[0]).name}, {name}"
        number = seen[entry.key] = seen.get(entry.key, 0) + 1
        if number > 1:
            entry, name = replace(entry, key=f"{entry.key}-of-{number}"), f"{name} ({number})"
        found.append(replace(entry, name=name))
    return found
