"""What is around the training: many trials that only wait, on as many slots as a small cluster has."""

import math
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import ray

from data_tools.split import Split
from model.config import PRESETS, batched
from results.run import open_storage, sqlite_url
from search.cluster import Cluster
from search.record import Record
from search.sampler import Sampler
from search.searcher import Budget, StudySearcher
from search.space import parse
from search.trial import BEST, Trial

TRIALS, SLOTS, SECONDS = 1000, 16, 1.0


class Waiting(Trial):
    """A trial of one epoch in which nothing is done."""

    def setup(self, config: dict[str, Any], **words: Any) -> None:  # type: ignore[override]
        """Remember the trial."""
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Remember the trial."""
        self._weight = config["config"]["mse_weight"]
        return True

    def step(self) -> dict[str, Any]:
        """Wait, and report as if it had trained."""
        time.sleep(SECONDS)
        score = abs(math.log(self._weight))
        figures = {"epoch": 1, "boxes": 0, "seconds": SECONDS, "chroma_mse": score, "skill": 0.0, "chroma_ratio": 1.0}
        return {**figures, "checkpoint": "none", BEST: score, "host": socket.gethostname(), "pid": 0, "done": True}


def bookkeeping(parts: Split) -> dict[str, float]:
    """1,000 trials of a second on 16 slots, with the real searcher and a study on disk: how much longer than ideal.

    Ray's own bar for its Tune is 10,000 such trials on 16 CPUs in 800 s, 28 % over the ideal 625.
    """
    space = parse({"mse_weight": {"low": 1.0, "high": 8.0}}, batched(PRESETS["model-2"], "photos"))
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        study = _study(Path(folder))
        searcher = StudySearcher(
            Record(study),
            Path(folder, "trials"),
            space=space,
            sampler=Sampler(space, "tpe", ["minimize"], 0, TRIALS),
            budget=Budget(TRIALS),
            epochs=1,
            seed=0,
            objectives=["chroma_mse"],
        )
        begun = time.perf_counter()
        Cluster().train(searcher, "asha", parts, Path(folder), "trials", Waiting)
        seconds = time.perf_counter() - begun
        assert len(study.get_trials(deepcopy=False)) == TRIALS and searcher.finished
        # From the first end on: before it Ray starts its processes.
        ends = sorted(trial.datetime_complete for trial in study.trials if trial.datetime_complete)
        warm = (ends[-1] - ends[SLOTS - 1]).total_seconds()
    ray.shutdown()
    ideal = (TRIALS - SLOTS) * SECONDS / SLOTS
    return {
        "over the ideal": warm / ideal - 1,
        "seconds": seconds,
        "warm seconds": warm,
        "ideal seconds": ideal,
        "writes a second": _writes(),
    }


def _study(folder: Path) -> optuna.Study:
    return optuna.create_study(
        storage=open_storage(sqlite_url(folder / "study.db")), sampler=optuna.samplers.RandomSampler()
    )


def _writes(epochs: int = 200) -> float:
    """Epochs a second that a study on this disk takes."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        record = Record(_study(Path(folder)))
        trial = record.begin({}, {}, {"config": {}, "seed": 0})
        begun = time.perf_counter()
        for epoch in range(1, epochs + 1):
            record.epoch(trial, {"epoch": epoch, "chroma_mse": 0.5, "seconds": 1.0}, 0.5)
        return epochs / (time.perf_counter() - begun)
