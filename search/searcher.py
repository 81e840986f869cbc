"""Tune's searcher on an Optuna study, which it keeps true.

Tune's stock OptunaSearch tells Optuna that a trial which a scheduler stopped is complete, leaves diverged ones running
for ever, and forgets the last epoch's value; a sampler that learns from such a study is misled, and so is whoever reads
it. Here each epoch is reported as it comes, and a trial ends as what it was: complete, pruned or failed.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.search import Searcher

from model.config import Config
from model.score import OBJECTIVES, better
from results.trials import EPOCH, STATES, best_epoch
from search.sampler import Point, Sampler
from search.space import Space
from search.trial import BEST


@dataclass(frozen=True)
class Job:
    """A training to be asked for.

    Attributes:
        config: what is trained.
        point: its place in the space, if it is one of a search.
        seed: that it trains from; None for the next of the search.
        attributes: what else the study is to know of it.
    """

    config: Config
    point: Point = field(default_factory=dict)
    seed: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """When a search asks for no more trials; those that run then come to their own end.

    Args:
        trials: in all, 1 or more.
        seconds: from its begin; None for as long as it takes.
        flat: so many ended trials in a row without a better one; None for however many.
    """

    trials: int
    seconds: float | None = None
    flat: int | None = None


Listener = Callable[["StudySearcher", optuna.Trial, str], None]


class StudySearcher(Searcher):
    """Asks for trainings and tells the study everything that becomes of them.

    Args:
        study: open for writing; only this process writes it.
        folder: in the run, where the trainings keep their checkpoints.
        space: what is searched; None where only enqueued jobs are done.
        sampler: is asked once no job waits.
        budget: when to end.
        epochs: of a complete trial.
        seed: trial k trains from seed + k, unless its job has its own.
        objectives: keys of `model.score.OBJECTIVES`; by the first a trial's best epoch is chosen.
        listener: told of each event: the searcher, the trial, and "started", "epoch" or how it ended.
        clock: seconds, since whenever.

    Attributes:
        ended_by: in words, why no more trials are asked for; None while they are.
        interrupted: whether trainings were still running at the end.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: Path,
        *,
        space: Space | None,
        sampler: Sampler | None,
        budget: Budget,
        epochs: int,
        seed: int,
        objectives: Sequence[str],
        listener: Listener = lambda searcher, trial, event: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.objective, self._objectives = objectives[0], objectives
        super().__init__(metric=BEST, mode=OBJECTIVES[self.objective][:3])
        self.trials, self.epochs = budget.trials, epochs
        self.states: Counter[str] = Counter()
        self.waiting: list[Job] = []
        self.live: dict[str, optuna.Trial] = {}
        self.progress: dict[int, int] = {}
        self.ended_by: str | None = None
        self.interrupted = False
        self._scores: dict[int, tuple[float, optuna.Trial]] = {}
        # Of running trials: the best score by epoch, and the values of the best epoch's weights.
        self._curves: dict[int, dict[int, float]] = {}
        self._values: dict[int, list[float]] = {}
        self._folder, self._study, self._space, self._sampler = folder, study, space, sampler
        self._seed, self._budget, self._listener, self._clock = seed, budget, listener, clock
        self._begun: float | None = None
        self._asked = self._flat = 0
        self._record: float | None = None

    def enqueue(self, jobs: Iterable[Job]) -> None:
        """Have jobs done, in this order, before the sampler is asked; of equal ones only the first.

        They wait here, not in the study: what is never started leaves no trace there.
        """
        for job in jobs:
            if all((job.config, job.seed) != (waiting.config, waiting.seed) for waiting in self.waiting):
                self.waiting.append(job)

    def suggest(  # type: ignore[override]  # Tune's annotation leaves out its own FINISHED
        self, trial_id: str
    ) -> dict[str, Any] | str:
        """Return the next trial's number, seed, epochs, configuration and, of a replicate, what it repeats."""
        # Not before: Ray's own start is none of the budget's.
        self._begun = self._clock() if self._begun is None else self._begun
        self.ended_by = self.ended_by or self._enough()
        if self.ended_by:
            self.trials = self._asked
            return Searcher.FINISHED
        self._asked += 1
        job = self._next()
        self._study.enqueue_trial(job.point, user_attrs=dict(job.attributes))
        trial = self._study.ask({name: self._space.domains[name] for name in job.point} if self._space else None)
        config = asdict(job.config)
        seed = self._seed + trial.number if job.seed is None else job.seed
        for name, value in {"ray_trial": trial_id, "seed": seed, "config": config}.items():
            trial.set_user_attr(name, value)
        self.live[trial_id] = trial
        self.progress[trial.number] = 0
        self._curves[trial.number] = {}
        self.states["running"] += 1
        self._listener(self, trial, "started")
        repeats = job.attributes.get("name")
        return {"number": trial.number, "seed": seed, "epochs": self.epochs, "config": config, "name": repeats}

    def _enough(self) -> str | None:
        budget = self._budget
        if self._asked >= budget.trials:
            return f"all {budget.trials} are asked for"
        if budget.seconds is not None and self._clock() - (self._begun or 0.0) >= budget.seconds:
            return f"its time was over after {self._asked} trials"
        if budget.flat is not None and self._flat >= budget.flat:
            return f"none of the last {self._flat} trials was better than those before"
        if not self.waiting and (self._sampler is None or self._sampler.exhausted):
            return f"the space is exhausted: all its {self._asked} configurations were tried"
        return None

    def _next(self) -> Job:
        if not self.waiting:
            assert self._sampler and self._space
            point = self._sampler.draw()
            return Job(self._space.config(point), point)
        job = self.waiting.pop(0)
        if self._sampler:
            self._sampler.add(job.point)
        return job

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
        if len(self._objectives) == 1:
            # Of several objectives Optuna takes no epochs; they are in the attribute either way.
            trial.report(result[self.objective], result["epoch"])
        trial.set_user_attr(f"{EPOCH}{result['epoch']}", figures)
        if "checkpoint" in result:
            self._values[trial.number] = [result[objective] for objective in self._objectives]
        self.progress[trial.number] = result["epoch"]
        self._curves[trial.number][result["epoch"]] = result[BEST]
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
                self._end(trial_id, TrialState.COMPLETE)
            else:
                self._end(trial_id, TrialState.PRUNED)

    def fail(self, trial_id: str, reason: str) -> None:
        """End a trial as failed."""
        trial = self.live[trial_id]
        trial.set_user_attr("error", reason)
        self._scores.pop(trial.number, None)
        self._curves[trial.number] = {}
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

    @property
    def finished(self) -> bool:
        """Whether all that was to be trained came to its own end."""
        return self.ended == self.trials and not self.interrupted

    def fail_live(self, reason: str) -> None:
        """End whatever still runs as failed."""
        live = list(self.live)
        self.interrupted = bool(live)
        for trial_id in live:
            self.fail(trial_id, reason)

    def _end(self, trial_id: str, state: TrialState) -> None:
        trial = self.live.pop(trial_id)
        values = self._values.pop(trial.number, None) if state == TrialState.COMPLETE else None
        curve = self._curves.pop(trial.number)
        ended = self._study.tell(trial, values, state)
        if self._sampler:
            self._sampler.tell(trial.params, values, curve)
        self._flat += 1
        for score in curve.values():
            if better(self.objective, score, self._record):
                self._record, self._flat = score, 0
        self.states["running"] -= 1
        self.states[STATES[state]] += 1
        self._tidy(ended)
        self._listener(self, trial, STATES[state])

    def _tidy(self, ended: FrozenTrial) -> None:
        """Remove a trial's earlier checkpoints, now that the study surely names the best."""
        best = best_epoch(ended, self.objective)
        for folder in (self._folder / f"{ended.number:04}").glob("epoch-*"):
            if best is None or folder.name != Path(best["checkpoint"]).name:
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


def grid_jobs(space: Space, seed: int) -> list[Job]:
    """Return all points of a space's grid in a random order, so that a part of it is a fair sample of the whole."""
    points = space.grid()
    random.Random(seed).shuffle(points)
    return [Job(space.config(point), point) for point in points]
