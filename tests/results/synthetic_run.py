"""Builds runs with real Optuna trials and invented metrics: any number of trials, in any state, without training."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from optuna.trial import TrialState, create_trial

from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.model.presets import PRESETS
from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.run import MANIFEST, STUDY, Run, open_storage, sqlite_url

ACTIVATIONS = ("relu", "silu", "gelu", "elu")
EPOCHS = 8


@dataclass(frozen=True)
class SyntheticRun(Run):
    """A run whose studies are in memory, because writing 1,000 trials to a file takes a minute.

    Attributes:
        search_study: study of the search.
        replicate_study: study of the replicates; None without finalists.
    """

    search_study: optuna.Study
    replicate_study: optuna.Study | None

    def study(self) -> optuna.Study:
        return self.search_study

    def replicates(self) -> optuna.Study | None:
        return self.replicate_study


def make_run(
    folder: Path,
    trials: int,
    *,
    finalists: int = 0,
    seeds: int = 3,
    objectives: tuple[str, ...] = ("chroma_mse",),
    states: tuple[TrialState, ...] = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL),
    activation: str | None = None,
    checkpoint: Path = Path("gone"),
    schema: int = 2,
    at_baseline: Collection[int] = (),
) -> SyntheticRun:
    """Make a run with a manifest and studies in memory.

    Args:
        folder: folder of the run, which must not exist.
        trials: number of trials.
        finalists: number of complete trials that have replicates.
        seeds: number of replicates of each finalist.
        objectives: objectives of the search.
        states: states of the trials, repeated in this order. The first three trials are presets.
        activation: a further activation, which the first three trials have.
        checkpoint: checkpoint of each epoch.
        schema: schema of the manifest.
        at_baseline: numbers of trials whose skill stays below 0; only these record their number of epochs to train.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    domains = {
        "mse_weight": FloatDistribution(1.0, 8.0, log=True),
        "activation": CategoricalDistribution([*([activation] if activation else []), *ACTIVATIONS]),
        "skip": CategoricalDistribution([True, False]),
    }
    study = optuna.create_study(directions=[METRICS.objectives[objective] for objective in objectives])
    replicate_study = None
    baseline = {"chroma_mse": 0.083, "skill": 0.0, "chroma_ratio": 0.23, "chroma_ratio_error": 0.77}
    attributes = {
        "objective": objectives[0],
        "parameters": list(domains),
        "epochs": EPOCHS,
        "zero_line": baseline,
        "seconds": 3600.5,
    }
    if schema > 1:
        attributes |= {"objectives": objectives}
        attributes |= {"asked": {"trials": trials, "epochs": EPOCHS, "further": []}}
        attributes |= {"ended": {**Stop(StopReason.TRIAL_BUDGET, trials).record, "trials": trials, "epochs": EPOCHS}}
    for name, value in attributes.items():
        study.set_user_attr(name, value)

    def epoch_record(epoch: int, weight: float, skip: bool, stays: bool = False) -> dict[str, Any]:
        mse = 0.03 + 0.004 * abs(weight - 3) + 0.01 * (not skip) + 0.04 / epoch + rng.normal(0, 0.002)
        mse = 0.084 + 0.01 / epoch if stays else mse
        ratio = float(rng.uniform(0.5, 0.9))
        scores = {"chroma_mse": mse, "skill": 1 - mse / 0.083, "chroma_ratio": ratio, "chroma_ratio_error": 1 - ratio}
        return {"epoch": epoch, "train_loss": 3 * mse, **scores, "seconds": 2.5, "checkpoint": str(checkpoint)}

    configs = {}
    for number in range(trials):
        state = states[number % len(states)]
        weight, skip = float(np.exp(rng.uniform(0, np.log(8)))), bool(rng.random() < 0.6)
        chosen_activation = str(rng.choice(ACTIVATIONS))
        params = {
            "mse_weight": weight,
            "activation": activation if activation and number < 3 else chosen_activation,
            "skip": skip,
        }
        configs[number] = asdict(Config.of({**params, "activation": chosen_activation}))
        lasted = EPOCHS if state == TrialState.COMPLETE else 1 + number % 4
        known = [epoch_record(epoch, weight, skip, number in at_baseline) for epoch in range(1, lasted + 1)]
        # Failing and running trials may not have come to their first epoch.
        known = known[: 0 if state == TrialState.FAIL and number % 8 == 7 else None]
        user_attrs: dict[str, Any] = {f"epoch-{one['epoch']}": one for one in known}
        user_attrs |= {"config": configs[number], "seed": number, "host": "vm"}
        if number in at_baseline:
            user_attrs["target"] = EPOCHS
        if number < 3:
            user_attrs["preset"] = list(PRESETS)[number]
        if state == TrialState.FAIL:
            user_attrs["failure"] = Failure(FailureKind.DIVERGED, "loss nan", epoch=len(known) + 1).record
        best = min(known, key=lambda one: one["chroma_mse"], default=None)
        values = [best[name] for name in objectives] if best and state == TrialState.COMPLETE else None
        reported = {} if len(objectives) > 1 else {one["epoch"]: one[objectives[0]] for one in known}
        study.add_trial(
            create_trial(
                state=state,
                values=values,
                params=params,
                distributions=domains,
                user_attrs=user_attrs,
                intermediate_values=reported,
            )
        )
    if finalists:
        complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        chosen = sorted(complete, key=lambda trial: trial.values[0])[:finalists]
        replicate_study = optuna.create_study()
        replicate_study.set_user_attr("finalists", [trial.number for trial in chosen])
        for trial in chosen:
            for seed in range(1_000_000, 1_000_000 + seeds):
                value = float(trial.values[0] + abs(rng.normal(0.002, 0.001)))
                user_attrs = {"config": configs[trial.number], "seed": seed, "name": f"trial {trial.number}"}
                user_attrs |= {"target": EPOCHS, "epoch-8": {**epoch_record(8, 3, True), "chroma_mse": value}}
                replicate_study.add_trial(
                    create_trial(value=value, user_attrs=user_attrs, intermediate_values={8: value})
                )
    manifest: dict[str, Any] = {
        "schema": schema,
        "command": ["/usr/bin/huetune", "search", "--photos", activation or "roses", "--name", "made"],
        "started": "2026-11-24T15:56:36+00:00",
        "search": {"name": "made", "seed": 0, "searcher": "tpe", "scheduler": "asha", "objectives": objectives},
        "space": {name: json.loads(distribution_to_json(domain)) for name, domain in domains.items()},
        "base": asdict(PRESETS["model-2"]),
        "photos": {"source": "roses", "training": 70, "validation": 20, "test": 10, "fingerprint": "7c2f"},
        "study": None,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
    }
    if schema > 1:
        manifest["photos"]["source"] = {"folder": "/roses", "scenes": None, "classes": [], "limit": None}
        manifest |= {
            "directions": {name: METRICS.objectives[name] for name in objectives},
            "conditions": {},
            "cluster": {},
        }
        manifest |= {"code": {"commit": "2e71b9c", "dirty": False}, "hardware": {"cores": 2}}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return SyntheticRun(folder, study, replicate_study)


def write_studies(run: SyntheticRun) -> None:
    """Write the studies of a run to its file, as a search does; this takes 0.1 s for each trial."""
    storage = open_storage(sqlite_url(run.folder / STUDY))
    for name, study in ((run.study_name, run.search_study), (run.replicates_name, run.replicate_study)):
        if study:
            written = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
            for key, value in study.user_attrs.items():
                written.set_user_attr(key, value)
            written.add_trials(study.get_trials(deepcopy=False))
