"""Measure the time around training with 1,000 trials that only wait, on the 16 slots of a small cluster."""

import math
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from huetune.data_tools.photos.split import Split
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.run import open_storage, sqlite_url
from huetune.results.records.trial_record import TrialRecord
from huetune.search.ray_runtime.cluster import Cluster
from huetune.search.ray_runtime.worker import TrialWorker
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_result import SCORE

TRIALS, SLOTS, TRIAL_SECONDS = 1000, 16, 1.0


class WaitingWorker(TrialWorker):
    """A trial of one epoch that waits and trains nothing."""

    def setup(self, config: dict[str, Any], **arguments: Any) -> None:  # type: ignore[override]
        """Store the loss weight of the trial."""
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Store the loss weight of the trial."""
        self._weight = config["config"]["mse_weight"]
        return True

    def step(self) -> dict[str, Any]:
        """Wait, and report metrics as after an epoch of training."""
        time.sleep(TRIAL_SECONDS)
        score = abs(math.log(self._weight))
        metrics = {
            "epoch": 1,
            "boxes": 0,
            "seconds": TRIAL_SECONDS,
            "chroma_mse": score,
            "skill": 0.0,
            "chroma_ratio": 1.0,
        }
        return {**metrics, "checkpoint": "none", SCORE: score, "host": socket.gethostname(), "pid": 0, "done": True}


def bookkeeping(parts: Split) -> dict[str, float]:
    """Measure how much longer than the ideal 1,000 trials of a second take, with the real searcher and a study on disk.

    Ray's own target for Tune is 10,000 such trials on 16 CPUs in 800 s, 28 % over the ideal 625 s.
    """
    space = parse_space({"mse_weight": {"low": 1.0, "high": 8.0}}, with_recipe(PRESETS["model-2"], "photos"))
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        study = _study(Path(folder))
        searcher = StudySearcher(
            StudyWriter(study),
            Path(folder, "trials"),
            space=space,
            sampler=Sampler(space, "tpe", ["minimize"], 0, TRIALS),
            budget=Budget(TRIALS),
            epochs=1,
            seed=0,
            objectives=["chroma_mse"],
        )
        begun = time.perf_counter()
        Cluster().train(searcher, "asha", parts, Path(folder), "trials", WaitingWorker)
        seconds = time.perf_counter() - begun
        assert len(study.get_trials(deepcopy=False)) == TRIALS and searcher.finished
        # The time counts from the end of the first 16 trials, because Ray starts its processes before.
        ends = sorted(trial.datetime_complete for trial in study.trials if trial.datetime_complete)
        warm = (ends[-1] - ends[SLOTS - 1]).total_seconds()
    ideal = (TRIALS - SLOTS) * TRIAL_SECONDS / SLOTS
    peer = _plain_ray_tune()
    store = _object_store()
    ray.shutdown()
    return {
        "over the ideal": warm / ideal - 1,
        "seconds": seconds,
        "seconds of plain Ray Tune": peer,
        "times as fast": peer / seconds,
        **store,
        "warm seconds": warm,
        "ideal seconds": ideal,
        "writes a second": _writes(),
    }


class _PlainTrial(tune.Trainable):
    """The same trial, written for Ray Tune alone."""

    def setup(self, config: dict[str, Any]) -> None:
        self._weight = config["mse_weight"]

    def reset_config(self, config: dict[str, Any]) -> bool:
        self.setup(config)
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(TRIAL_SECONDS)
        return {"score": abs(math.log(self._weight)), "done": True}


def _plain_ray_tune() -> float:
    """Return the seconds of the same trials with searcher, scheduler and records of Ray Tune, and reused workers."""
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(_PlainTrial, {"CPU": 1}),
            param_space={"mse_weight": tune.uniform(1.0, 8.0)},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="min",
                search_alg=OptunaSearch(),
                scheduler=ASHAScheduler(),
                num_samples=TRIALS,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        begun = time.perf_counter()
        assert len(tuner.fit()) == TRIALS
        return time.perf_counter() - begun


def _object_store(photos: int = 20_000) -> dict[str, float]:
    """Measure how fast photos are put into Ray's object store, and how fast a worker reads them from there."""
    gray = np.zeros((photos, 112, 112), np.uint8)
    begun = time.perf_counter()
    reference = ray.put(gray)
    put = time.perf_counter() - begun

    @ray.remote
    def get(value: np.ndarray) -> int:
        return int(value[-1].sum())

    ray.get(get.remote(reference))
    begun = time.perf_counter()
    ray.get(get.remote(reference))
    return {
        "photos a second into the object store": photos / put,
        "seconds for a worker to see them": time.perf_counter() - begun,
    }


def _study(folder: Path) -> optuna.Study:
    return optuna.create_study(
        storage=open_storage(sqlite_url(folder / "study.db")), sampler=optuna.samplers.RandomSampler()
    )


def _writes(epochs: int = 200) -> float:
    """Return how many epochs a second can be recorded in a study on this disk."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        record = StudyWriter(_study(Path(folder)))
        trial = record.start_trial(TrialRecord(0, "running", config={}, seed=0), {})
        begun = time.perf_counter()
        for epoch in range(1, epochs + 1):
            record.write_epoch(trial, EpochMetrics(epoch, {"chroma_mse": 0.5, "seconds": 1.0}), 0.5)
        return epochs / (time.perf_counter() - begun)
