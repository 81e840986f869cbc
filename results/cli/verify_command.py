"""The command `huetune verify`: checks that a run is complete and undamaged."""

from pathlib import Path

import click

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.bucket_cache import pull
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import moved_option, photos_of


@click.command()
@run_argument
@storage_option
@click.option("--quick", is_flag=True, help="Skip scoring the best model again.")
@moved_option
def verify(run: str, storage: Path, quick: bool, photos: Path | None = None) -> int:
    """Check that nothing in a run is lost, duplicated or damaged.

    Checks trials, epochs, checkpoints and files, and scores the best model again. An interrupted search that `resume`
    can continue is not an error: its progress is shown. Exit code 1: a check failed. Exit code 3: all other checks
    passed, but the photos to score the best model again are missing or different.

    Example: huetune verify roses
    """
    from huetune.data_tools.storage.run_lock import lock_holder
    from huetune.results.records.run import REPLICATES, TRIALS, find_run

    found = find_run(run, storage)

    from huetune.results.integrity import describe_unfinished, find_study_damage, find_violations

    if by := lock_holder(found.folder):
        say(f"run {found.name!r} is locked by {by}; running trials are not checked")
    for name in (TRIALS, REPLICATES):
        # The local copy of a run in a bucket may differ from the bucket.
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
    lines = list(find_violations(found, validation))
    for line in lines:
        say(line, "red")
    if unread:
        say(f"photos: {unread}", "red")
    states = [] if lines and find_study_damage(found) else describe_unfinished(found)
    for line in states:
        say(line)
    if lines:
        remedy = f"; run `{found.command('resume')}` to repair what can be repaired; restore the rest from a backup"
        problems = counted(len(lines) + bool(unread), "problem")
        say(f"run {found.name!r}: {problems} found{'' if by else remedy}")
        return 1
    if unread:
        say(f"run {found.name!r}: everything else is undamaged; without its photos the best model was not scored again")
        return unread.exit_code
    ended = [trial for trial in found.study().get_trials(deepcopy=False) if trial.state.is_finished()]
    say(f"run {found.name!r} is undamaged{' so far' * bool(states)}: checked {counted(len(ended), 'ended trial')}")
    return 0
