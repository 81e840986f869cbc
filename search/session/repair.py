"""Repairs a run after a fault: a damaged study, and files that no trial refers to."""

import time

from rich.console import Console

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.bucket_cache import list_paths, pull
from huetune.results.integrity import REPLACED_FILES, find_damage, find_lost_trials
from huetune.results.records.run import REPLICATES, STUDY, TRIALS, Run, backup_path
from huetune.search.tuning.study_writer import remove_superseded


def repair(run: Run, console: Console) -> None:
    """Repair a locked run: replace a damaged study by its copy, and delete files that no trial refers to.

    Args:
        run: the run, which this process has locked.
        console: where a replacement is reported.

    Raises:
        StorageError: the copy is damaged, too.
    """
    _repair_study(run, console)
    objective = run.manifest["search"]["objectives"][0]
    for study, folder in ((run.study(), TRIALS), (run.replicates(), REPLICATES)):
        if study:
            ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
            remove_superseded(list_paths(run.folder / folder, "*/*"), ended, objective)


def _repair_study(run: Run, console: Console) -> None:
    path = run.folder / STUDY
    for name in REPLACED_FILES:
        for draft in run.folder.glob(f".{name}*"):
            draft.unlink()
    if run.manifest["study"] is not None:
        return
    if not (problem := find_damage(path) or next(find_lost_trials(run), None)):
        return
    copy = backup_path(path)
    if find_damage(copy):
        pull(copy, force=True)
    if also := find_damage(copy):
        raise StorageError(f"{str(path)!r}: {problem}; its copy {copy.name!r}: {also}; restore both from a backup")
    suffix = f"damaged-{time.time_ns()}"
    for part in (path, path.with_name(f"{STUDY}-journal")):
        # SQLite would apply a remaining journal to the copy.
        if part.exists():
            part.rename(part.with_name(f"{part.name}.{suffix}"))
    atomic_write(path, copy.read_bytes())
    line = f"{str(path)!r}: {problem}; replaced by its copy, which has all trials that ended; the damaged file is kept"
    say(line, "yellow", console)
