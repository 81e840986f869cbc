"""Finalists, presets and trials, trained again from fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from huetune.data_tools.common.terminal import say
from huetune.data_tools.photos.split import Split
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.analysis.replicates import diverged
from huetune.results.live.progress import Display
from huetune.results.records.run import REPLICATES, Run, open_storage
from huetune.results.records.trial_records import Asked, StudyRecord, TrialRecord, config_key, write_study
from huetune.results.tables.trial_table import full, rows
from huetune.search.ray_runtime.cluster import Cluster
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_queue import Job

FRESH = 1_000_000
"""Added to a run's seed: the first one of its replicates, far from those of its trials."""


def replicate_finalists(
    run: Run, parts: Split, cluster: Cluster, top: int, seeds: int, console: Console, *, quiet: bool = False
) -> None:
    """Train the best complete trials of a search again, as `replicate` does."""
    finalists = _finalists(run, top)
    if finalists:
        replicates = _open(run)
        # Those of an earlier confirmation stay candidates, for they may have won it; not once the search went further.
        there = full(run.study())
        earlier = [number for number in StudyRecord.of(replicates).finalists if number in there]
        write_study(replicates, finalists=tuple(dict.fromkeys([*earlier, *finalists])))
        if not quiet:
            numbers = ", ".join(map(str, finalists))
            say(f"again, from {seeds} fresh seeds each: trials {numbers}", console=console)
    configs = {f"trial {number}": config for number, config in finalists.items()}
    replicate(run, parts, cluster, configs, seeds, console, quiet=quiet)


def missing_finalists(run: Run, top: int, seeds: int) -> bool:
    """Whether `replicate_finalists` would have something to train."""
    replicates = run.replicates()
    trials = replicates.get_trials(deepcopy=False) if replicates else []
    configs = {f"trial {number}": config for number, config in _finalists(run, top).items()}
    return bool(_missing(run, trials, configs, seeds)) or not all(trial.state.is_finished() for trial in trials)


def _finalists(run: Run, top: int) -> dict[int, Config]:
    """The best configurations, each once, by the best trial of it."""
    study = run.study()
    trials = full(study)
    best: dict[str, FrozenTrial] = {}
    for row in rows(study):
        if trial := trials.get(row["trial"]):
            best.setdefault(TrialRecord.of(trial).key, trial)
    return {trial.number: TrialRecord.of(trial).configuration for trial in list(best.values())[:top]}


def replicate(
    run: Run,
    parts: Split,
    cluster: Cluster,
    configs: Mapping[str, Config],
    seeds: int,
    console: Console,
    *,
    quiet: bool = False,
) -> None:
    """Train configurations at a search's full epochs from fresh seeds, the same ones for all; what is there stays.

    Args:
        run: of the search, held.
        parts: its photos.
        cluster: where to train.
        configs: by what they are called.
        seeds: of each, 1 or more.
        console: where progress is shown.
        quiet: show nothing.

    Raises:
        UserError, StorageError, Interrupted: see `Cluster.train`.
    """
    cluster.check()
    study = _open(run)
    trials = study.get_trials(deepcopy=False)
    missing = _missing(run, trials, configs, seeds)
    if not missing and all(trial.state.is_finished() for trial in trials):
        return
    total = len(trials) + len(missing)
    searched = StudyRecord.of(run.study())
    epochs = searched.asked.epochs
    display = Display(console, run.name, searched, trials, what="replicates", quiet=quiet)
    # Who watches cannot know what this process was asked for.
    write_study(study, asked=Asked(total, epochs))
    searcher = StudySearcher(
        StudyWriter(study, run),
        run.folder / REPLICATES,
        space=None,
        sampler=None,
        budget=Budget(total),
        epochs=epochs,
        seed=0,
        objectives=[run.manifest["search"]["objectives"][0]],
        listener=display,
    )
    searcher.enqueue(missing)
    with cluster.started(), display:
        cluster.train(searcher, "none", parts, run.folder, REPLICATES)


def _missing(run: Run, trials: Sequence[FrozenTrial], configs: Mapping[str, Config], seeds: int) -> list[Job]:
    """What was not trained yet, a seed of all, then the next: after Ctrl-C all have about as many."""
    epochs = StudyRecord.of(run.study()).asked.epochs
    # Those that were left are gone on with in any case; those that ended by no fault of theirs are trained again.
    there = {
        (record.key, record.seed)
        for trial in trials
        if (record := TrialRecord.of(trial)).full_epochs >= epochs
        and (not trial.state.is_finished() or trial.state == TrialState.COMPLETE or diverged(trial))
    }
    first = run.manifest["search"]["seed"] + FRESH
    # Of two names for one configuration, a preset and its trial say, the first is trained.
    jobs: dict[tuple[str, int], Job] = {}
    for seed in range(first, first + seeds):
        for name, config in configs.items():
            jobs.setdefault((config_key(asdict(config)), seed), Job(config, seed=seed, attributes={"name": name}))
    return [job for key, job in jobs.items() if key not in there]


def _open(run: Run) -> optuna.Study:
    objective = run.manifest["search"]["objectives"][0]
    return optuna.create_study(
        study_name=run.replicates_name,
        storage=open_storage(run.database),
        direction=METRICS.objectives[objective],
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )
