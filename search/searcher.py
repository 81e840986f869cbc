"""Tune's searcher on an Optuna study, which it keeps true.

Tune's stock OptunaSearch tells Optuna that a trial which a scheduler stopped is complete, leaves diverged ones running
for ever, and forgets the last epoch's value; a sampler that learns from such a study is misled, and so is whoever reads
it. Here each epoch is reported as it comes, and a trial ends as what it was: complete, pruned or failed.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.search import Searcher

from model.score import OBJECTIVES, better
from results.trials import EPOCH, STATES, best_epoch
from search.space import Space
from search.trial import BEST


def _tpe(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    # Optuna's own ten random trials before TPE begins would be most of a small search.
    startup = min(10, max(4, trials // 3))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def _random(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


# A grid's points are enqueued one by one; nothing is left to sample.
SAMPLERS: dict[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _random,
}

Listener = Callable[["StudySearcher", optuna.Trial, str], None]


class StudySearcher(Searcher):
    """Asks the study for trials and tells it everything that becomes of them.

    Args:
        study: open for writing; only this process writes it.
        space: what is searched.
        folder: of the run, where the trials keep their checkpoints.
        trials: how many to ask for.
        epochs: of a complete trial.
        seed: trial k trains from seed + k.
        objective: a key of `model.score.OBJECTIVES`.
        listener: told of each event: the searcher, the trial, and "started", "epoch" or how it ended.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        folder: Path,
        *,
        trials: int,
        epochs: int,
        seed: int,
        objective: str,
        listener: Listener = lambda searcher, trial, event: None,
    ):
        super().__init__(metric=BEST, mode=OBJECTIVES[objective][:3])
        self.trials, self.epochs, self.objective = trials, epochs, objective
        self.states: Counter[str] = Counter()
        self._scores: dict[int, tuple[float, optuna.Trial]] = {}
        self.waiting: list[tuple[dict[str, Any], str | None]] = []
        self.live: dict[str, optuna.Trial] = {}
        self.progress: dict[int, int] = {}
        self._folder = folder
        self._study, self._space, self._seed, self._listener = study, space, seed, listener
        self._asked = 0

    def enqueue(self, points: Sequence[dict[str, Any]], preset: str | None = None) -> None:
        """Have points tried, in this order, before the sampler is asked; each only once.

        They wait here, not in the study: what is never started leaves no trace there.
        """
        for point in points:
            if all(point != waiting for waiting, _ in self.waiting):
                self.waiting.append((point, preset))

    def suggest(  # type: ignore[override]  # Tune's annotation leaves out its own FINISHED
        self, trial_id: str
    ) -> dict[str, Any] | str:
        """Return the next trial's number, seed, epochs and configuration."""
        if self._asked >= self.trials:
            return Searcher.FINISHED
        self._asked += 1
        if self.waiting:
            point, preset = self.waiting.pop(0)
            self._study.enqueue_trial(point, user_attrs={"preset": preset} if preset else {})
        trial = self._study.ask(dict(self._space.domains))
        config = asdict(self._space.config(trial.params))
        seed = self._seed + trial.number
        for name, value in {"ray_trial": trial_id, "seed": seed, "config": config}.items():
            trial.set_user_attr(name, value)
        self.live[trial_id] = trial
        self.progress[trial.number] = 0
        self.states["running"] += 1
        self._listener(self, trial, "started")
        return {"number": trial.number, "seed": seed, "epochs": self.epochs, "config": config}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch."""
        trial = self.live[trial_id]
        if "error" in result or result["epoch"] <= self.progress[trial.number]:
            return
        kept = ("epoch", "boxes", "seconds", "checkpoint", "chroma_mse", "skill", "chroma_ratio", "chroma_ratio_error")
        figures = {name: result[name] for name in result if name in kept or name.startswith("train_")}
        if not self.progress[trial.number]:
            trial.set_user_attr("host", result["host"])
            trial.set_user_attr("pid", result["pid"])
        trial.report(result[self.objective], result["epoch"])
        trial.set_user_attr(f"{EPOCH}{result['epoch']}", figures)
        self.progress[trial.number] = result["epoch"]
        self._scores[trial.number] = result[BEST], trial
        self._listener(self, trial, "epoch")

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial as what it was. One that died is left to `fail`, which knows the reason."""
        if error or trial_id not in self.live:
            return
        if result is None:
            self.fail(trial_id, "stopped before its first epoch")
        elif "error" in result:
            self.fail(trial_id, result["error"])
        else:
            # The result on which Tune stops a trial comes here alone, not to on_trial_result.
            self.on_trial_result(trial_id, result)
            if result["epoch"] >= self.epochs:
                self._end(trial_id, TrialState.COMPLETE, result[BEST])
            else:
                self._end(trial_id, TrialState.PRUNED)

    def fail(self, trial_id: str, reason: str) -> None:
        """End a trial as failed."""
        trial = self.live[trial_id]
        trial.set_user_attr("error", reason)
        self._scores.pop(trial.number, None)
        self._end(trial_id, TrialState.FAIL)

    @property
    def best(self) -> tuple[float, optuna.Trial] | None:
        """The best score so far and its trial, failed ones left aside."""
        best: tuple[float, optuna.Trial] | None = None
        for scored in self._scores.values():
            if better(self.objective, scored[0], best[0] if best else None):
                best = scored
        return best

    @property
    def ended(self) -> int:
        """How many trials have ended, one way or another."""
        return sum(self.states.values()) - self.states["running"]

    def fail_live(self, reason: str) -> int:
        """End whatever still runs as failed, and return how many trials that were."""
        live = list(self.live)
        for trial_id in live:
            self.fail(trial_id, reason)
        return len(live)

    def _end(self, trial_id: str, state: TrialState, score: float | None = None) -> None:
        trial = self.live.pop(trial_id)
        ended = self._study.tell(trial, score, state)
        self.states["running"] -= 1
        self.states[STATES[state]] += 1
        self._tidy(ended)
        self._listener(self, trial, STATES[state])

    def _tidy(self, ended: FrozenTrial) -> None:
        """Remove a trial's earlier checkpoints, now that the study surely names the best."""
        best = best_epoch(ended, self.objective)
        for folder in (self._folder / "trials" / f"{ended.number:04}").glob("epoch-*"):
            if best is None or folder != self._folder / best["checkpoint"]:
                shutil.rmtree(folder, ignore_errors=True)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher beside its own state, to restore what we never restore."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of worth: the study is the searcher's memory, and Tune only insists on a file."""
        Path(checkpoint_path).write_text("the study holds it\n")

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: see `save`."""


class Deaths(Callback):
    """Tells the searcher why a trial died; Tune itself only says that it did."""

    def __init__(self, searcher: StudySearcher):
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as with the searcher."""
        return {}

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Fail the trial with the last line of its error."""
        lines = Path(trial.error_file).read_text().splitlines() if trial.error_file else []
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
        if trial.trial_id in self._searcher.live:
            self._searcher.fail(trial.trial_id, f"died: {reason}")


def grid_points(space: Space, seed: int) -> list[dict[str, Any]]:
    """Return all points of a space's grid in a random order, so that a part of it is a fair sample of the whole."""
    points = space.grid()
    random.Random(seed).shuffle(points)
    return points
