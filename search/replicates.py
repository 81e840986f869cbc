"""Finalists, presets and trials, trained again from fresh seeds."""

from collections.abc import Mapping
from dataclasses import asdict

import optuna
from rich.console import Console

from data_tools.split import Split
from model.config import Config
from model.score import OBJECTIVES
from results.replicates import FINALISTS, config_key, diverged
from results.run import REPLICATES, Run, open_storage
from results.trials import rows
from search.cluster import Cluster
from search.display import Display
from search.searcher import Budget, Job, StudySearcher

FRESH = 1_000_000
"""Added to a run's seed: the first one of its replicates, far from those of its trials."""


def replicate_finalists(
    run: Run, parts: Split, cluster: Cluster, top: int, seeds: int, console: Console, *, quiet: bool = False
) -> bool:
    """Train the best complete trials of a search again, as `replicate` does."""
    study = run.study()
    best = [row["trial"] for row in rows(study) if row["state"] == "complete"][:top]
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    if best:
        replicates = _open(run)
        # Those of an earlier confirmation stay candidates: they may have won it.
        replicates.set_user_attr(FINALISTS, list(dict.fromkeys([*replicates.user_attrs.get(FINALISTS, ()), *best])))
        if not quiet:
            console.print(f"again, from {seeds} fresh seeds each: trials {', '.join(map(str, best))}", highlight=False)
    finalists = {f"trial {number}": Config.of(trials[number].user_attrs["config"]) for number in best}
    return replicate(run, parts, cluster, finalists, seeds, console, quiet=quiet)


def replicate(
    run: Run,
    parts: Split,
    cluster: Cluster,
    configs: Mapping[str, Config],
    seeds: int,
    console: Console,
    *,
    quiet: bool = False,
) -> bool:
    """Train configurations at a search's full epochs from fresh seeds, the same ones for all; what is there stays.

    Args:
        run: of the search.
        parts: its photos.
        cluster: where to train.
        configs: by what they are called.
        seeds: of each, 1 or more.
        console: where progress is shown.
        quiet: show nothing.

    Returns:
        Whether all was trained: False after Ctrl-C.
    """
    cluster.check()
    manifest = run.manifest
    study = _open(run)
    done = {
        (config_key(trial.user_attrs["config"]), trial.user_attrs["seed"])
        for trial in study.get_trials(deepcopy=False)
        if trial.state == optuna.trial.TrialState.COMPLETE or diverged(trial)
    }
    # A seed of all, then the next: after Ctrl-C all have about as many.
    jobs = [
        Job(config, seed=manifest["search"]["seed"] + FRESH + number, attributes={"name": name})
        for number in range(seeds)
        for name, config in configs.items()
    ]
    jobs = [job for job in jobs if (config_key(asdict(job.config)), job.seed) not in done]
    if not jobs:
        return True
    display = Display(console, len(jobs), quiet, what="replicates")
    searcher = StudySearcher(
        study,
        run.folder / REPLICATES,
        space=None,
        sampler=None,
        budget=Budget(len(jobs)),
        epochs=manifest["search"]["epochs"],
        seed=0,
        objectives=[manifest["search"]["objectives"][0]],
        listener=display,
    )
    # Of two names for one configuration, a preset and its trial say, one is trained.
    searcher.enqueue(jobs)
    with cluster.started(), display:
        cluster.train(searcher, "none", parts, run.folder, REPLICATES)
    return searcher.finished


def _open(run: Run) -> optuna.Study:
    objective = run.manifest["search"]["objectives"][0]
    return optuna.create_study(
        study_name=run.replicates_name,
        storage=open_storage(run.database),
        direction=OBJECTIVES[objective],
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )
