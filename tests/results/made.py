"""A run whose trials are Optuna's and whose figures are made up: as many and as odd ones as a test wants, at once."""

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
class Made(Run):
    """Its studies are in memory: in a file 1,000 trials would take a minute to make."""

    made: optuna.Study
    again: optuna.Study | None

    def study(self) -> optuna.Study:
        return self.made

    def replicates(self) -> optuna.Study | None:
        return self.again


def make_run(
    folder: Path,
    trials: int,
    *,
    finalists: int = 0,
    seeds: int = 3,
    objectives: tuple[str, ...] = ("chroma_mse",),
    states: tuple[TrialState, ...] = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL),
    word: str | None = None,
    checkpoint: Path = Path("gone"),
    schema: int = 2,
    stuck: Collection[int] = (),
) -> Made:
    """Make a run.

    Args:
        folder: of the run.
        trials: how many.
        finalists: complete trials that were trained again.
        seeds: of each of these.
        objectives: of the search.
        states: of the trials, in turn; the first three are presets.
        word: a further activation, which the first trials have.
        checkpoint: of each epoch.
        schema: of the manifest.
        stuck: numbers of trials whose skill stays below 0, and which say how many epochs they were to train.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    domains = {
        "mse_weight": FloatDistribution(1.0, 8.0, log=True),
        "activation": CategoricalDistribution([*([word] if word else []), *ACTIVATIONS]),
        "skip": CategoricalDistribution([True, False]),
    }
    study = optuna.create_study(directions=[METRICS.objectives[objective] for objective in objectives])
    again = None
    zero = {"chroma_mse": 0.083, "skill": 0.0, "chroma_ratio": 0.23, "chroma_ratio_error": 0.77}
    attributes = {
        "objective": objectives[0],
        "parameters": list(domains),
        "epochs": EPOCHS,
        "zero_line": zero,
        "seconds": 3600.5,
    }
    if schema > 1:
        attributes |= {"objectives": objectives}
        attributes |= {"asked": {"trials": trials, "epochs": EPOCHS, "further": []}}
        attributes |= {"ended": {**Stop(StopReason.TRIAL_BUDGET, trials).record, "trials": trials, "epochs": EPOCHS}}
    for name, value in attributes.items():
        study.set_user_attr(name, value)

    def figures(epoch: int, weight: float, skip: bool, stays: bool = False) -> dict[str, Any]:
        mse = 0.03 + 0.004 * abs(weight - 3) + 0.01 * (not skip) + 0.04 / epoch + rng.normal(0, 0.002)
        mse = 0.084 + 0.01 / epoch if stays else mse
        ratio = float(rng.uniform(0.5, 0.9))
        scores = {"chroma_mse": mse, "skill": 1 - mse / 0.083, "chroma_ratio": ratio, "chroma_ratio_error": 1 - ratio}
        return {"epoch": epoch, "train_loss": 3 * mse, **scores, "seconds": 2.5, "checkpoint": str(checkpoint)}

    configs = {}
    for number in range(trials):
        state = states[number % len(states)]
        weight, skip = float(np.exp(rng.uniform(0, np.log(8)))), bool(rng.random() < 0.6)
        activation = str(rng.choice(ACTIVATIONS))
        point = {"mse_weight": weight, "activation": word if word and number < 3 else activation, "skip": skip}
        configs[number] = asdict(Config.of({**point, "activation": activation}))
        lasted = EPOCHS if state == TrialState.COMPLETE else 1 + number % 4
        known = [figures(epoch, weight, skip, number in stuck) for epoch in range(1, lasted + 1)]
        # Failing and running trials may not have come to their first epoch.
        known = known[: 0 if state == TrialState.FAIL and number % 8 == 7 else None]
        notes: dict[str, Any] = {f"epoch-{one['epoch']}": one for one in known}
        notes |= {"config": configs[number], "seed": number, "host": "vm"}
        if number in stuck:
            notes["target"] = EPOCHS
        if number < 3:
            notes["preset"] = list(PRESETS)[number]
        if state == TrialState.FAIL:
            notes["failure"] = Failure(FailureKind.DIVERGED, "loss nan", epoch=len(known) + 1).record
        best = min(known, key=lambda one: one["chroma_mse"], default=None)
        values = [best[name] for name in objectives] if best and state == TrialState.COMPLETE else None
        reported = {} if len(objectives) > 1 else {one["epoch"]: one[objectives[0]] for one in known}
        study.add_trial(
            create_trial(
                state=state,
                values=values,
                params=point,
                distributions=domains,
                user_attrs=notes,
                intermediate_values=reported,
            )
        )
    if finalists:
        complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        chosen = sorted(complete, key=lambda trial: trial.values[0])[:finalists]
        again = optuna.create_study()
        again.set_user_attr("finalists", [trial.number for trial in chosen])
        for trial in chosen:
            for seed in range(1_000_000, 1_000_000 + seeds):
                value = float(trial.values[0] + abs(rng.normal(0.002, 0.001)))
                notes = {"config": configs[trial.number], "seed": seed, "name": f"trial {trial.number}"}
                notes |= {"target": EPOCHS, "epoch-8": {**figures(8, 3, True), "chroma_mse": value}}
                again.add_trial(create_trial(value=value, user_attrs=notes, intermediate_values={8: value}))
    manifest: dict[str, Any] = {
        "schema": schema,
        "command": ["/usr/bin/huetune", "search", "--photos", word or "roses", "--name", "made"],
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
    return Made(folder, study, again)


def write_studies(run: Made) -> None:
    """Write the studies of a run into its file, as a search does; a tenth of a second a trial."""
    storage = open_storage(sqlite_url(run.folder / STUDY))
    for name, study in ((run.study_name, run.made), (run.replicates_name, run.again)):
        if study:
            written = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
            for key, value in study.user_attrs.items():
                written.set_user_attr(key, value)
            written.add_trials(study.get_trials(deepcopy=False))
