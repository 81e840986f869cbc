"""Replicates: finalists, presets and trials that are trained again from fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from huetune.data_tools.common.terminal import say
from huetune.data_tools.photos.split import Split
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.analysis.replicates import has_diverged
from huetune.results.live.progress import Display
from huetune.results.records.run import REPLICATES, Run, open_storage
from huetune.results.records.study_record import RequestedBudget, StudyRecord, fully_trained, write_study
from huetune.results.records.trial_record import TrialRecord, config_key
from huetune.results.tables.trial_table import rows
from huetune.search.ray_runtime.cluster import Cluster
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_queue import Job

REPLICATE_SEED_OFFSET = 1_000_000
"""The first replicate has the seed of the run plus this offset, so that no trial has the same seed."""


def replicate_finalists(
    run: Run, parts: Split, cluster: Cluster, top: int, seeds: int, console: Console, *, quiet: bool = False
) -> None:
    """Train the best complete trials of a search again, as `replicate` does.

    Args:
        run: run of the search, which this process has locked.
        parts: the photos of the run.
        cluster: where to train.
        top: the number of finalists, 0 or more.
        seeds: the number of seeds of each finalist, 1 or more.
        console: where progress is shown.
        quiet: print nothing.

    Raises:
        UserError, StorageError, Interrupted: see `Cluster.train`.
    """
    finalists = _finalists(run, top)
    if finalists:
        replicates = _open_replicates(run)
        # Finalists of an earlier confirmation remain, because one of them may have won it, unless an extension has
        # trained other trials further since.
        candidates = fully_trained(run.study())
        earlier = [number for number in StudyRecord.of(replicates).finalists if number in candidates]
        write_study(replicates, finalists=tuple(dict.fromkeys([*earlier, *finalists])))
        if not quiet:
            numbers = ", ".join(map(str, finalists))
            say(f"training finalists again, {seeds} seeds each: trials {numbers}", console=console)
    configs = {f"trial {number}": config for number, config in finalists.items()}
    replicate(run, parts, cluster, configs, seeds, console, quiet=quiet)


def missing_finalists(run: Run, top: int, seeds: int) -> bool:
    """Return whether `replicate_finalists` has something to train."""
    replicates = run.replicates()
    trials = replicates.get_trials(deepcopy=False) if replicates else []
    configs = {f"trial {number}": config for number, config in _finalists(run, top).items()}
    return bool(_missing_jobs(run, trials, configs, seeds)) or not all(trial.state.is_finished() for trial in trials)


def _finalists(run: Run, top: int) -> dict[int, Config]:
    """Return the best configurations by the number of their best trial; each configuration once."""
    study = run.study()
    trials = fully_trained(study)
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
    """Train configurations for all epochs of a search from fresh seeds, the same seeds for each of them.

    Replicates that exist already are not trained again; interrupted ones are resumed.

    Args:
        run: run of the search, which this process has locked.
        parts: the photos of the run.
        cluster: where to train.
        configs: configurations by display name.
        seeds: the number of seeds of each configuration, 1 or more; 0 only resumes interrupted replicates.
        console: where progress is shown.
        quiet: print nothing.

    Raises:
        UserError, StorageError, Interrupted: see `Cluster.train`.
    """
    cluster.check()
    study = _open_replicates(run)
    trials = study.get_trials(deepcopy=False)
    missing = _missing_jobs(run, trials, configs, seeds)
    if not missing and all(trial.state.is_finished() for trial in trials):
        return
    total = len(trials) + len(missing)
    searched = StudyRecord.of(run.study())
    epochs = searched.requested.epochs
    display = Display(console, run.name, searched, trials, noun="replicates", quiet=quiet)
    # `huetune watch`, in another process, reads the budget from here.
    write_study(study, requested=RequestedBudget(total, epochs))
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


def _missing_jobs(run: Run, trials: Sequence[FrozenTrial], configs: Mapping[str, Config], seeds: int) -> list[Job]:
    """Return the trainings that are missing, seed by seed: after Ctrl-C all configurations have about as many."""
    epochs = StudyRecord.of(run.study()).requested.epochs
    # Interrupted ones are resumed in any case. Failed ones are trained again unless they diverged.
    existing = {
        (record.key, record.seed)
        for trial in trials
        if (record := TrialRecord.of(trial)).planned_epochs >= epochs
        and (not trial.state.is_finished() or trial.state == TrialState.COMPLETE or has_diverged(trial))
    }
    first = run.manifest["search"]["seed"] + REPLICATE_SEED_OFFSET
    # If two names have one configuration, such as a preset and its trial, the first is trained.
    jobs: dict[tuple[str, int], Job] = {}
    for seed in range(first, first + seeds):
        for name, config in configs.items():
            jobs.setdefault((config_key(asdict(config)), seed), Job(config, seed=seed, attributes={"name": name}))
    return [job for key, job in jobs.items() if key not in existing]


def _open_replicates(run: Run) -> optuna.Study:
    objective = run.manifest["search"]["objectives"][0]
    return optuna.create_study(
        study_name=run.replicates_name,
        storage=open_storage(run.database),
        direction=METRICS.objectives[objective],
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )
