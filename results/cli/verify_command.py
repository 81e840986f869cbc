"""The command `huetune verify`: checks that a run is complete and undamaged."""

from pathlib import Path

import click

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.bucket_cache import pull
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import moved_option, photos_of


@click.command()
@run_argument
@storage_option
@click.option("--quick", is_flag=True, help="Do not score the best model again.")
@moved_option
def verify(run: str, storage: Path, quick: bool, photos: Path | None = None) -> int:
    """Hold a run to all that a search promises: nothing lost, nothing twice, nothing damaged.

    A search that was interrupted, or died, and that `resume` continues, is whole: verify says how far it came. Exit
    code 1: something is not whole. 3: only the photos are not there, or others, to score the best model again.

    Example: huetune verify roses
    """
    from huetune.data_tools.storage.run_lock import lock_holder
    from huetune.results.records.run import REPLICATES, TRIALS, find_run

    found = find_run(run, storage)

    from huetune.results.integrity import study_damage, unfinished, violations

    if by := lock_holder(found.folder):
        say(f"run {found.name!r} is locked by {by}: what runs is not judged")
    for name in (TRIALS, REPLICATES):
        # What lies here of a run in a bucket says nothing of what lies there.
        pull(found.folder / name, force=not quick, delete_extra=not by)
    validation, unread = None, None
    try:
        if photos or not quick:
            validation = photos_of(found, quiet=False, moved=photos).validation
    except (PhotoError, StorageError) as error:
        unread = error
    if quick or unread:
        validation = None
    else:
        import_tensorflow()
    lines = list(violations(found, validation))
    for line in lines:
        say(line, "red")
    if unread:
        say(f"photos: {unread}", "red")
    states = [] if lines and study_damage(found) else unfinished(found)
    for line in states:
        say(line)
    if lines:
        say(f"run {found.name!r}: {len(lines) + bool(unread)} violations")
        return 1
    if unread:
        say(f"run {found.name!r}: all else is whole; the best model was not scored again")
        return unread.exit_code
    ended = [trial for trial in found.study().get_trials(deepcopy=False) if trial.state.is_finished()]
    say(f"run {found.name!r} is whole{' so far' * bool(states)}: {len(ended)} trials, each as it ended")
    return 0
