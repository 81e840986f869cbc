"""The best model of a run, and models that left their run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from huetune.data_tools.common.errors import NoTrialError, UserError
from huetune.data_tools.storage.atomic import alone, require_new, sealed
from huetune.data_tools.storage.bucket_cache import pull, push
from huetune.model import checkpoint as models
from huetune.model.metrics import METRICS
from huetune.results.analysis.winner import Winner, trainings
from huetune.results.export.model_card import card
from huetune.results.records.run import EVALUATIONS, STORAGE, Run, find_source
from huetune.results.records.study_file import Studies
from huetune.results.records.trial_records import StudyRecord
from huetune.results.tables.trial_table import Row, best_epoch, front_ends, rows, trial_of, winner


def best(run: Run, by: str | None = None, studies: Studies | None = None) -> tuple[Row, list[Path]]:
    """Return the winner of a run: its row, and the checkpoints of its configuration, the best one first.

    Args:
        run: of a search.
        by: an objective of the search, where it had several: that end of the Pareto front wins.
        studies: the run's, where they have been read; None to read them.

    Returns:
        The confirmed winner, or else the best complete trial; the folders of its own checkpoint and of its replicates',
        each of its best epoch, in the order of their scores.

    Raises:
        NoTrialError: no trial is complete.
        UserError: several objectives, and `by` is none of them.
        StorageError: the run has no study.
    """
    study, replicates = studies = studies or run.snapshot()
    table = rows(study, replicates)
    row = _end_of_front(run, study, table, by) or winner(table)
    if row is None:
        raise NoTrialError(
            f"run {run.name!r} has no complete trial among its {len(table)}; see them with `{run.command('trials')}`"
        )
    return row, checkpoints(run, studies, row["trial"], by)


def checkpoints(run: Run, studies: Studies, number: int, by: str | None = None) -> list[Path]:
    """Return the checkpoints of a trial and of what was trained again of its configuration, the best one first.

    Each is that of its best epoch.

    Args:
        run: of a search.
        studies: the run's.
        number: of a trial.
        by: an objective of the search that orders them; None for the first one.
    """
    found = trainings(*studies, number, by)
    return [run.path(training.metrics.checkpoint) for training in found if training.metrics.checkpoint]


def _end_of_front(run: Run, study: optuna.Study, table: list[Row], by: str | None) -> Row | None:
    objectives = StudyRecord.of(study).objectives
    if by is not None and by not in objectives:
        raise UserError(f"--by {by!r}: run {run.name!r} searched by {', '.join(objectives)}")
    ends = front_ends(study, table)
    if not ends:
        return None
    if by is None:
        front = [row for row in table if row["front"]]
        choices = ", ".join(f"--by {objective} (trial {row['trial']})" for objective, row in ends.items())
        raise UserError(f"run {run.name!r} has {len(front)} trials on its Pareto front: which end? {choices}")
    return ends[by]


def checkpoint(run: Run, study: optuna.Study, number: int) -> Path:
    """Return the folder of a trial's checkpoint, of its best epoch so far.

    Raises:
        NoTrialError: there is no such trial, or it has finished no epoch.
    """
    trial = trial_of(study, number)
    best = best_epoch(trial, StudyRecord.of(study).objective) if trial else None
    if best and best.checkpoint:
        return run.path(best.checkpoint)
    raise NoTrialError(f"run {run.name!r} has no trial {number} with a finished epoch")


def claim(won: Winner) -> dict[str, Any]:
    """Return how good a run says that its winner is, as an export keeps it.

    Returns:
        `objective`, its `direction`, the `score` of the search, the `zero_line`'s, the `checkpoint`, which may be a
        replicate's, its `checkpoint_score`, and `baseline`: how the configuration compares with the mean-color
        baseline, in words; where it was trained again from fresh `seeds`, the mean score `confirmed`, half the width of
        its 95 % interval, `plus_minus`, and the interval's ends, `low` and `high`.
    """
    found = {
        "objective": won.objective,
        "direction": METRICS.objectives[won.objective],
        "score": won.row[won.objective],
    }
    found |= {"zero_line": won.standing.baseline, "baseline": str(won.standing)}
    found |= {"checkpoint": str(won.training), "checkpoint_score": won.score}
    if estimate := won.confirmed:
        found |= {"confirmed": estimate.value, "seeds": won.seeds}
        if estimate.low is not None:
            found |= {"plus_minus": estimate.half, "low": estimate.low, "high": estimate.high}
    return found


def export(checkpoint: Path, folder: Path, metric: Mapping[str, Any] | None = None) -> None:
    """Have a model in a folder that needs nothing of the run: with a card for people and a probe for machines.

    Args:
        checkpoint: as `best` returns it.
        folder: must not exist, or be empty.
        metric: as `claim` returns it; None where nobody says how good it is.

    Raises:
        StorageError: the folder holds something, or another process makes it.
        CheckpointError: the model is damaged.
    """
    pull(folder)
    require_new(folder)
    metric = metric or {}
    with alone(folder), sealed(folder) as draft:
        models.export(checkpoint, draft, metric, card(models.read(checkpoint), metric))
    push(folder)


def find_model(run_or_export: str, storage: Path = STORAGE, by: str | None = None) -> tuple[Path, Path]:
    """Return the checkpoint that a name or path means, and the folder where its evaluations belong.

    Args:
        run_or_export: an export's folder, or a run, which stands for its best complete trial.
        storage: where runs are looked for by name.
        by: see `best`.

    Raises:
        StorageError: it is neither.
        NoTrialError: the run has no complete trial.
    """
    return model_of(find_source(run_or_export, storage), by)


def model_of(source: Path | Run, by: str | None = None) -> tuple[Path, Path]:
    """Return the checkpoint of what `find_source` found, and the folder where its evaluations belong.

    Raises:
        NoTrialError: the run has no complete trial.
    """
    if isinstance(source, Path):
        return source, source.with_name(f"{source.resolve().name}-{EVALUATIONS}")
    _, paths = best(source, by)
    return paths[0], source.folder / EVALUATIONS
