"""The commands that retrain what a search has trained: `confirm`, `compare` and `rerun`."""

from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.options import TEXT, count_from
from huetune.data_tools.common.errors import NoTrialError, UserError
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say, stdout
from huetune.results.cli.options import storage_option
from huetune.results.cli.table_commands import show_trials
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import moved_option, photos_of
from huetune.search.cli.options import address_option, quiet_option


@click.command()
@run_argument
@storage_option
@click.option("--top", type=count_from(1), default=3, show_default=True, help="Number of finalists.")
@click.option("--seeds", type=count_from(2), default=5, show_default=True, help="Fresh seeds per finalist.")
@moved_option
@address_option
@quiet_option
def confirm(
    run: str, storage: Path, top: int, seeds: int, photos: Path | None, address: str | None, quiet: bool
) -> None:
    """Train the best trials of a run again from fresh seeds, and show which one wins.

    Only the missing replicates are trained.

    Example: huetune confirm roses --top 3 --seeds 5
    """
    from huetune.data_tools.storage.run_lock import lock_run
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.replicates import verdict
    from huetune.results.evaluation import final_check
    from huetune.results.records.study_record import fully_trained
    from huetune.search.session.repair import repair
    from huetune.search.session.replicate_runner import replicate_finalists

    with lock_run(found.folder):
        repair(found, stdout)
        study = found.study()
        if len(study.directions) > 1:
            raise UserError(f"run {found.name!r} has several objectives, but confirm ranks by one")
        if not fully_trained(study):
            raise NoTrialError(f"run {found.name!r} has no complete trial to confirm")
        parts = photos_of(found, quiet, photos)
        replicate_finalists(found, parts, _cluster_of(found, address), top, seeds, stdout, quiet=quiet)
        final_check.measure_if_outdated(found, parts.test, quiet)
    if not quiet:
        show_trials(found)
    elif line := verdict(study, found.replicates()):
        say(line)


@click.command()
@run_argument
@click.argument("first", type=TEXT)
@click.argument("second", type=TEXT)
@storage_option
@click.option("--seeds", type=count_from(0), default=3, show_default=True, help="Fresh seeds for each of the two.")
@moved_option
@address_option
@quiet_option
def compare(
    run: str,
    first: str,
    second: str,
    storage: Path,
    seeds: int,
    photos: Path | None,
    address: str | None,
    quiet: bool,
) -> None:
    """Show how two presets or trials of a run differ, in percent with a 95% interval.

    Example: huetune compare roses model-3 model-2
    """
    from huetune.data_tools.storage.run_lock import lock_run
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.effects import comparison, config_of

    if seeds:
        from huetune.search.session.repair import repair
        from huetune.search.session.replicate_runner import replicate

        with lock_run(found.folder):
            repair(found, stdout)
            study = found.study()
            configs = {name: config_of(found, study, name) for name in (first, second)}
            parts = photos_of(found, quiet, photos)
            replicate(found, parts, _cluster_of(found, address), configs, seeds, stdout, quiet=quiet)
    for line in comparison(found, first, second):
        say(line)


@click.command()
@run_argument
@click.argument("trial", type=int)
@storage_option
@moved_option
def rerun(run: str, trial: int, storage: Path, photos: Path | None) -> int:
    """Train a trial of a run again, and check that its metrics are the same to the last bit on this machine.

    Example: huetune rerun roses 4
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.records.trial_record import TrialRecord, find_trial

    recorded = find_trial(found.study(), trial)
    record = TrialRecord.of(recorded) if recorded else None
    if record is None or record.seed is None or not record.epochs:
        raise NoTrialError(f"run {found.name!r} has no trial {trial} with a finished epoch")
    lines = [epoch.record for epoch in record.epochs]
    parts = photos_of(found, quiet=False, moved=photos)
    import_tensorflow()

    from huetune.model.cli import epoch_line
    from huetune.model.trainer import Trainer
    from huetune.results.records.provenance import differences
    from huetune.search.ray_runtime.worker import take_devices
    from huetune.search.spec.manifest import load_resources

    resources = load_resources(found, None)
    take_devices(resources.threads, (0,) if resources.gpus_per_trial else ())
    trainer = Trainer(parts.training, parts.validation)
    trainer.start(record.configuration, record.seed)
    different = 0
    for line in lines:
        metrics = trainer.epoch()
        say(epoch_line(metrics, len(lines)))
        changed = [name for name in metrics if name in line and "seconds" not in name and metrics[name] != line[name]]
        for name in changed:
            say(f"  {name} was {line[name]!r}, is {metrics[name]!r}", "yellow")
        different += bool(changed)
    if not different:
        say(f"trial {trial}: the same to the last bit in all its {len(lines)} epochs")
        return 0
    say(f"trial {trial}: {different} of {len(lines)} epochs differ", "red")
    for difference in differences(found.manifest):
        say(f"  {difference}")
    return 1


def _cluster_of(run: Any, address: str | None) -> Any:
    """Return a cluster that gives a trial the resources of the run's search."""
    from huetune.search.ray_runtime.cluster import Cluster
    from huetune.search.spec.manifest import load_resources

    return Cluster(load_resources(run, address))
