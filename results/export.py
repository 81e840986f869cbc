"""The best model of a run, and models that left their run."""

import shutil
import tempfile
from pathlib import Path

import optuna

from data_tools.errors import NoTrialError, StorageError
from data_tools.folder import require_empty
from model.checkpoint import SETTINGS
from results.run import STORAGE, Run, find_run
from results.trials import Row, best_epoch, rows, winner


def best(run: Run) -> tuple[Row, Path]:
    """Return the best complete trial of a run: its row, and the folder of its best epoch's checkpoint.

    Raises:
        NoTrialError: no trial is complete.
        StorageError: the run has no study.
    """
    study = run.study()
    table = rows(study)
    row = winner(table)
    if row is None:
        raise NoTrialError(
            f"run {run.name!r} has no complete trial among its {len(table)}; see them with `huetune trials {run.name}`"
        )
    return row, checkpoint(run, study, row["trial"])


def checkpoint(run: Run, study: optuna.Study, number: int) -> Path:
    """Return the folder of a trial's checkpoint, of its best epoch so far.

    Raises:
        NoTrialError: there is no such trial, or it has finished no epoch.
    """
    for trial in study.get_trials(deepcopy=False):
        if trial.number == number and (figures := best_epoch(trial, study.user_attrs["objective"])):
            return run.folder / figures["checkpoint"]
    raise NoTrialError(f"run {run.name!r} has no trial {number} with a finished epoch")


def export(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint to a folder that needs nothing of the run.

    Args:
        checkpoint: as `best` returns it.
        folder: must not exist, or be empty.

    Raises:
        StorageError: the folder holds something.
    """
    require_empty(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copytree(checkpoint, draft, dirs_exist_ok=True)
        draft.chmod(0o755)
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def find_model(run_or_export: str, storage: Path = STORAGE) -> tuple[Path, Path]:
    """Return the checkpoint that a name or path means, and the folder where its evaluation belongs.

    Args:
        run_or_export: an export's folder, or a run, which stands for its best complete trial.
        storage: where runs are looked for by name.

    Raises:
        StorageError: it is neither.
        NoTrialError: the run has no complete trial.
    """
    folder = Path(run_or_export)
    if (folder / SETTINGS).is_file():
        return folder, folder.with_name(f"{folder.resolve().name}-evaluation")
    try:
        run = find_run(run_or_export, storage)
    except StorageError as error:
        raise StorageError(f"{error}; nor is it an export, which would have a {SETTINGS}") from None
    _, path = best(run)
    return path, run.folder / "evaluation"
