"""Finds the best model of a run, and exports models to portable folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from huetune.data_tools.common.errors import NoTrialError, UserError
from huetune.data_tools.common.plural import counted
from huetune.data_tools.storage.atomic import atomic_folder, exclusive, require_new
from huetune.data_tools.storage.bucket_cache import pull, push
from huetune.model.checkpoint import read_checkpoint, write_export
from huetune.model.metrics import METRICS
from huetune.results.analysis.winner import Winner, front_ends, trainings
from huetune.results.export.model_card import model_card
from huetune.results.records.run import EVALUATIONS, STORAGE, Run, find_source
from huetune.results.records.study_file import Studies
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, find_trial
from huetune.results.tables.trial_table import Row, rows, winner_row


def best_checkpoints(run: Run, studies: Studies, by: str | None = None) -> tuple[Row, list[Path]]:
    """Return the winner of a run and the checkpoints of its configuration, the best one first.

    Args:
        run: run of a search.
        studies: the studies of the run, as `Run.snapshot` reads them.
        by: the objective by which the trials of the Pareto front are compared, if the search had several objectives.

    Returns:
        The row of the winner in the trial table, which is the best confirmed finalist or else the best complete trial;
        and the checkpoint folders of the winner and its replicates, each of its best epoch, the best score first.

    Raises:
        NoTrialError: no trial is complete.
        UserError: the search had several objectives, and `by` is not one of them.
        StorageError: the run has no study.
    """
    study, replicates = studies
    table = rows(study, replicates)
    row = _end_of_front(run, study, table, by) or winner_row(table)
    if row is None:
        raise NoTrialError(
            f"run {run.name!r} has no complete trial among its {len(table)}; see them with `{run.command('trials')}`"
        )
    return row, trial_checkpoints(run, studies, row["trial"], by)


def trial_checkpoints(run: Run, studies: Studies, number: int, by: str | None = None) -> list[Path]:
    """Return the checkpoint folders of a trial and of its complete replicates, the one with the best score first.

    Args:
        run: run of a search.
        studies: the studies of the run.
        number: number of the trial.
        by: the objective of the search whose score orders them; None for the first objective.
    """
    found = trainings(*studies, number, by)
    return [run.path(training.metrics.checkpoint) for training in found if training.metrics.checkpoint]


def _end_of_front(run: Run, study: optuna.Study, table: list[Row], by: str | None) -> Row | None:
    objectives = StudyRecord.of(study).objectives
    if by is not None and by not in objectives:
        raise UserError(f"--by {by!r}: is not an objective of run {run.name!r}; choose one of {', '.join(objectives)}")
    by_number = {row["trial"]: row for row in table}
    ends = {objective: by_number[trial.number] for objective, trial in front_ends(study).items()}
    if not ends:
        return None
    if by is None:
        front = [row for row in table if row["front"]]
        choices = ", ".join(f"--by {objective} (trial {row['trial']})" for objective, row in ends.items())
        count = counted(len(front), "trial")
        raise UserError(
            f"run {run.name!r} has {count} on its Pareto front; choose the best of one objective: {choices}"
        )
    return ends[by]


def trial_checkpoint(run: Run, study: optuna.Study, number: int) -> Path:
    """Return the checkpoint folder of a trial, of its best epoch so far.

    Raises:
        NoTrialError: the trial does not exist, or has not finished an epoch.
    """
    trial = find_trial(study, number)
    best = TrialRecord.of(trial).best_epoch(StudyRecord.of(study).objective) if trial else None
    if best and best.checkpoint:
        return run.path(best.checkpoint)
    raise NoTrialError(f"run {run.name!r} has no trial {number} with a finished epoch")


def metric_record(won: Winner) -> dict[str, Any]:
    """Return the record of how good a winner is, which an export stores.

    Returns:
        `objective` and its `direction`; `score`, the score of the trial in the search; `zero_line`, the score of the
        mean-color baseline; `checkpoint`, the training whose weights are exported, which may be a replicate, and its
        `checkpoint_score`; `baseline`, a text that compares the configuration with the mean-color baseline. For a
        confirmed winner also `confirmed`, the mean score over `seeds` fresh seeds, and if there are several seeds
        `plus_minus`, half the width of the 95% interval of that mean, and the ends of the interval, `low` and `high`.
    """
    found = {
        "objective": won.objective,
        "direction": METRICS.objectives[won.objective],
        "score": won.search_score,
    }
    found |= {"zero_line": won.comparison.baseline, "baseline": str(won.comparison)}
    found |= {"checkpoint": str(won.training), "checkpoint_score": won.score}
    if estimate := won.confirmed:
        found |= {"confirmed": estimate.value, "seeds": won.seeds}
        if estimate.low is not None:
            found |= {"plus_minus": estimate.half_width, "low": estimate.low, "high": estimate.high}
    return found


def export(checkpoint: Path, folder: Path, metric: Mapping[str, Any] | None = None) -> None:
    """Export a model to a folder that does not depend on the run, with a model card and a self-test.

    Args:
        checkpoint: checkpoint folder.
        folder: new or empty folder.
        metric: the record that `metric_record` returns; None if it is not known how good the model is.

    Raises:
        StorageError: the folder is not empty, or another process is writing it.
        CheckpointError: the model is damaged.
    """
    pull(folder)
    require_new(folder)
    metric = metric or {}
    with exclusive(folder), atomic_folder(folder) as draft:
        write_export(checkpoint, draft, metric, model_card(read_checkpoint(checkpoint), metric))
    push(folder)


def find_model(run_or_export: str, storage: Path = STORAGE, by: str | None = None) -> tuple[Path, Path]:
    """Return the checkpoint that a name or path stands for, and the folder for its evaluations.

    Args:
        run_or_export: folder of an export, or name or folder of a run, which stands for its best model.
        storage: folder in which runs are looked up by name.
        by: the objective that decides, see `best_checkpoints`.

    Raises:
        StorageError: it is neither a run nor an export.
        NoTrialError: no trial of the run is complete.
        UserError: the search had several objectives, and `by` is not one of them.
    """
    return model_from_source(find_source(run_or_export, storage), by)


def model_from_source(source: Path | Run, by: str | None = None) -> tuple[Path, Path]:
    """Return the checkpoint of an export or a run that `find_source` returned, and the folder for its evaluations.

    Raises:
        NoTrialError: no trial of the run is complete.
        UserError: the search had several objectives, and `by` is not one of them.
    """
    if isinstance(source, Path):
        return source, source.with_name(f"{source.resolve().name}-{EVALUATIONS}")
    _, paths = best_checkpoints(source, source.snapshot(), by)
    return paths[0], source.folder / EVALUATIONS
