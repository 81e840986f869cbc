"""Tune's searcher on an Optuna study, which it keeps true.

Tune's stock OptunaSearch tells Optuna that a trial which a scheduler stopped is complete, leaves diverged ones running
for ever, and forgets the last epoch's value; a sampler that learns from such a study is misled, and so is whoever reads
it. Here each epoch is reported as it comes, and a trial ends as what it was: complete, pruned or failed.
"""

import contextlib
import datetime
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.storage.bucket_cache import listed
from huetune.model.metrics import METRICS, best_of, better
from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.trial_records import (
    STATES,
    End,
    EpochMetrics,
    Session,
    StudyRecord,
    TrialRecord,
    best_epoch_of,
    config_key,
    curve_of,
)
from huetune.search.ray_runtime.worker import BEST, FAILED, REFUSED, STORAGE
from huetune.search.spec.space import Space
from huetune.search.tuning.jobs import Budget, Job
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.study_writer import Record, tidy

LIVES = 3
"""Workers in a row that may die on a trial without one epoch between them; then the fault is the trial's."""

NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)

Listener = Callable[["StudySearcher", optuna.Trial, str], None]


class StudySearcher(Searcher):
    """Asks for trainings and tells the study everything that becomes of them.

    It begins with what the study holds already: ended trials have taught the sampler and count; those that were left
    before their end are gone on with first.

    Args:
        record: of the study.
        folder: in the run, where the trainings keep their checkpoints.
        space: what is searched; None where only enqueued jobs are done.
        sampler: is asked once no job waits.
        budget: when to end.
        epochs: of a complete trial.
        seed: trial k trains from seed + k, unless its job has its own.
        objectives: keys of `model.metrics.METRICS`; by the first a trial's best epoch is chosen.
        listener: told of each event: the searcher, the trial, and what happened: "started", "goes on", "epoch", "died",
            "warning", "waiting" for whoever resumes, or how it ended.
        clock: seconds, since whenever.

    Attributes:
        ended_by: why no more trials are asked for; None while they are.
        stopping: why all is to be left as it is, now: what is raised once it was left so.
        slots: says how many may run at once; None for however many Tune asks for.
        room: what it said last.
        resumed: Tune's names of trials that go on, or take an ended one further, and have not begun to yet.
    """

    def __init__(
        self,
        record: Record,
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
        super().__init__(metric=BEST, mode=METRICS.objectives[self.objective][:3])
        self.trials, self.epochs = budget.trials, epochs
        self.states: Counter[str] = Counter()
        self.waiting: list[Job] = []
        self.left: deque[FrozenTrial] = deque()
        self.live: dict[str, optuna.Trial] = {}
        self.progress: dict[int, int] = {}
        self.ended_by: Stop | None = None
        self.stopping: BaseException | None = None
        self.slots: Callable[[], int] | None = None
        self.room: int | None = None
        self.resumed: set[str] = set()
        self._scores: dict[int, tuple[float, optuna.Trial | FrozenTrial]] = {}
        # Of trials that ended before, by their numbers: the best score so far after each epoch.
        self._ended: dict[int, dict[int, float]] = {}
        # Of running trials, the epochs that the study holds.
        self._epochs: dict[int, list[EpochMetrics]] = {}
        # When each live trial was last heard of.
        self._heard: dict[str, float] = {}
        self._deaths: Counter[int] = Counter()
        self._folder, self._record, self._space, self._sampler = folder, record, space, sampler
        self._seed, self._budget, self._listener, self._clock = seed, budget, listener, clock
        self._begun: float | None = None
        self._spent = StudyRecord.of(record.study).seconds or 0.0
        self._asked = self._flat = 0
        self._best_yet: float | None = None
        self._known: set[str] = set()
        self._learn(record.study.get_trials(deepcopy=False))

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what the study holds."""
        pairs = [(trial, TrialRecord.of(trial)) for trial in trials]
        for trial, record in sorted(pairs, key=lambda pair: pair[1].end or NEVER):
            self._asked += 1
            self._known.add(record.key)
            if self._sampler:
                self._sampler.add(trial.params)
            if trial.state.is_finished():
                past = {} if trial.state == TrialState.FAIL else record.curve(self.objective)
                self._ended[trial.number] = past
                self._close(trial, past, trial.values if trial.state == TrialState.COMPLETE else None)
            else:
                self.left.append(trial)
                past = record.curve(self.objective)
            if past:
                self._scores[trial.number] = list(past.values())[-1], trial

    def enqueue(self, jobs: Iterable[Job]) -> None:
        """Have jobs done, in this order, before the sampler is asked; of equal ones only the first.

        One without a seed of its own is left out where the study has such a trial already.

        They wait here, not in the study: what is never started leaves no trace there.
        """
        waiting = {(job.config, job.seed) for job in self.waiting}
        for job in jobs:
            again = job.seed is not None or "continues" in job.attributes
            if not again and config_key(asdict(job.config)) in self._known:
                continue
            if (job.config, job.seed) not in waiting:
                waiting.add((job.config, job.seed))
                self.waiting.append(job)

    def suggest(  # type: ignore[override]  # Tune's annotation leaves out its own FINISHED and None
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the next trial's number, seed, epochs, configuration, what it repeats and what it goes on from."""
        # Not before: Ray's own start is none of the budget's.
        self._begun = self._clock() if self._begun is None else self._begun
        if self.stopping:
            # With nothing running Tune would go on asking for ten minutes.
            return None if self.live else Searcher.FINISHED
        try:
            if self.slots and len(self.live) >= self._look(self.slots):
                return None
            if self.left:
                return self._go_on(trial_id, self.left.popleft())
            self.ended_by = self.ended_by or self._enough()
            if self.ended_by:
                self.trials = self._asked
                # Of those that run a worker may still die: then another trial of Tune's goes on with it.
                return None if self.live else Searcher.FINISHED
            return self._begin(trial_id, self._next())
        except StorageError as error:
            self.stopping = error
            return None if self.live else Searcher.FINISHED

    def _look(self, slots: Callable[[], int]) -> int:
        """Return how many may run at once, and have the study say it to those who watch."""
        if (room := slots()) != self.room:
            self.room = room
            self._record.set(session=Session(room, time.time(), self.seconds))
        return room

    def _begin(self, trial_id: str, job: Job) -> dict[str, Any]:
        record = TrialRecord(
            # The study numbers its trials as they come, and only this process adds any.
            number=self._asked,
            state="running",
            params=job.point,
            seed=self._seed + self._asked if job.seed is None else job.seed,
            config=asdict(job.config),
            target=self.epochs,
            ray_trial=trial_id,
            # Optuna's own time of its start is that of the last time that it went on.
            begun=datetime.datetime.now(datetime.UTC).isoformat(),
            **job.attributes,
        )
        self._asked += 1
        if "continues" in job.attributes:
            self.resumed.add(trial_id)
        trial = self._record.begin(record, self._space.domains if self._space else {})
        return self._start(trial_id, trial, [], "started")

    def _go_on(self, trial_id: str, left: FrozenTrial) -> dict[str, Any]:
        self.resumed.add(trial_id)
        return self._start(trial_id, self._record.take_up(left), TrialRecord.of(left).epochs, "goes on")

    def _start(self, trial_id: str, trial: optuna.Trial, past: Sequence[EpochMetrics], event: str) -> dict[str, Any]:
        self.live[trial_id] = trial
        self.progress[trial.number] = len(past)
        self._epochs[trial.number] = []
        for epoch in past:
            self._take(trial, epoch)
        self._heard[trial_id] = self._clock()
        self.states["running"] += 1
        self._listener(self, trial, event)
        record = TrialRecord.of(trial)
        return {
            "number": record.number,
            "seed": record.seed,
            "epochs": record.target or self.epochs,
            "config": record.config,
            "name": record.name,
            "continues": record.continues,
        }

    def _enough(self) -> Stop | None:
        budget = self._budget
        if self._asked >= budget.trials:
            return Stop(StopReason.TRIAL_BUDGET, budget.trials)
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return Stop(StopReason.TIME_BUDGET, self._asked)
        if budget.flat is not None and self._flat >= budget.flat:
            return Stop(StopReason.NO_IMPROVEMENT, self._flat)
        if not self.waiting and (self._sampler is None or self._sampler.exhausted):
            return Stop(StopReason.SPACE_EXHAUSTED, self._asked)
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

    @property
    def seconds(self) -> float:
        """That were searched so far, also before an interruption."""
        return self._spent + (0.0 if self._begun is None else self._clock() - self._begun)

    @property
    def seconds_left(self) -> float | None:
        """Until no more trials are begun; None where time does not end the search."""
        return None if self._budget.seconds is None else max(0.0, self._budget.seconds - self.seconds)

    def past(self, trial_id: str) -> dict[int, float]:
        """Return the best score so far after each epoch that a running trial, or that which it takes further, has."""
        trial = self.live[trial_id]
        own, continues = curve_of(self._epochs[trial.number], self.objective), TrialRecord.of(trial).continues
        return dict(own or ({} if continues is None else self._ended.get(continues, {})))

    @property
    def ended_curves(self) -> list[dict[int, float]]:
        """The best score so far after each epoch, of each trial that ended before and is not taken further."""
        further = {TrialRecord.of(trial).continues for trial in self._record.study.get_trials(deepcopy=False)}
        further |= {TrialRecord.of(trial).continues for trial in self.live.values()}
        further |= {job.attributes.get("continues") for job in self.waiting}
        return [past for number, past in self._ended.items() if number not in further]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch, and those before it that a dying worker could no longer tell of."""
        trial = self.live[trial_id]
        if self.stopping or any(key in result for key in (FAILED, STORAGE, REFUSED)):
            return
        self._heard[trial_id] = self._clock()
        try:
            for note in result.get("notes", ()):
                self._record.note(trial, notes=(*TrialRecord.of(trial).notes, note))
                self._listener(self, trial, "warning")
            for figures in (*result.get("missed", ()), result):
                if figures["epoch"] > self.progress[trial.number]:
                    self._deaths[trial.number] = 0
                    self._epoch(trial, figures, result)
        except StorageError as error:
            self.stopping = error

    def _epoch(self, trial: optuna.Trial, result: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
        epoch = EpochMetrics.reported(result)
        if not self.progress[trial.number]:
            self._record.note(trial, host=origin["host"], pid=origin["pid"])
        # Of several objectives Optuna takes no epochs; they are in the attribute either way.
        value = epoch[self.objective] if len(self._objectives) == 1 else None
        self._record.epoch(trial, epoch, value)
        self.progress[trial.number] = epoch.epoch
        self._take(trial, epoch)
        self._listener(self, trial, "epoch")

    def _take(self, trial: optuna.Trial, epoch: EpochMetrics) -> None:
        """Know an epoch that the study holds."""
        self._epochs[trial.number].append(epoch)
        best = best_epoch_of(self._epochs[trial.number], self.objective)
        assert best
        self._scores[trial.number] = best[self.objective], trial

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial as what it was. One that died is left to `fail`, which knows the reason."""
        if error or trial_id not in self.live or self.stopping:
            return
        if result is None:
            self.fail(trial_id, Failure(FailureKind.STOPPED))
        elif STORAGE in result:
            # Not the trial's fault, and what cannot be written for one cannot be for the next: all wait.
            self.stopping = StorageError(result[STORAGE])
        elif REFUSED in result:
            self.stopping = UserError(result[REFUSED])
        elif FAILED in result:
            kind = FailureKind(result[FAILED])
            self.fail(trial_id, Failure(kind, result["detail"], epoch=result["epoch"]))
        else:
            # The result on which Tune stops a trial comes here alone, not to on_trial_result.
            self.on_trial_result(trial_id, result)
            if self.stopping:
                # Its last epoch may not be written: it has not ended.
                return
            target = TrialRecord.of(self.live[trial_id]).target or self.epochs
            self._end(trial_id, TrialState.COMPLETE if result["epoch"] >= target else TrialState.PRUNED)

    def lost(self, trial_id: str, reason: str, timeout: float | None = None) -> None:
        """Have another worker go on with a trial whose worker died; if that happens to it again and again, fail it.

        Args:
            trial_id: Tune's.
            reason: of the death, as far as it is known.
            timeout: seconds after which a silent worker was ended as hung.
        """
        trial = self.live[trial_id]
        if timeout and self._clock() - self._heard[trial_id] >= timeout:
            failure = Failure(FailureKind.HUNG, seconds=timeout)
        else:
            failure = Failure(FailureKind.WORKER_DIED, reason)
        self._deaths[trial.number] += 1
        if self._deaths[trial.number] >= LIVES:
            self.fail(trial_id, failure)
            return
        try:
            self._record.note(trial, deaths=(*TrialRecord.of(trial).deaths, failure))
            self.left.append(self._record.put_back(trial))
        except StorageError as error:
            self.stopping = error
            return
        del self.live[trial_id]
        self.states["running"] -= 1
        self._listener(self, trial, "died")

    def fail(self, trial_id: str, failure: Failure) -> None:
        """End a trial as failed."""
        trial = self.live[trial_id]
        try:
            self._record.note(trial, failure=failure)
        except StorageError as error:
            self.stopping = error
            return
        self._scores.pop(trial.number, None)
        self._epochs[trial.number] = []
        self._end(trial_id, TrialState.FAIL)

    @property
    def best(self) -> tuple[float, optuna.Trial | FrozenTrial] | None:
        """The best score so far and its trial, failed ones left aside."""
        return best_of(self.objective, self._scores.values(), lambda scored: scored[0])

    @property
    def ended(self) -> int:
        """How many trials have ended, one way or another."""
        return sum(self.states.values()) - self.states["running"]

    @property
    def finished(self) -> bool:
        """Whether all that was to be trained came to its own end."""
        return self.ended_by is not None and not (self.live or self.left or self.stopping)

    def leave(self) -> None:
        """Have whatever still runs wait to be gone on with."""
        # What cannot be written now is found out by whoever resumes.
        with contextlib.suppress(StorageError, sqlite3.Error, OSError):
            self._record.put_all_back()
            for trial in self.live.values():
                self._listener(self, trial, "waiting")
            self._record.set(seconds=self.seconds)
            if self.ended_by and self.finished:
                self._record.set(end=End(self.ended_by, self._budget.trials, self.epochs))
            self._record.copy()

    def _end(self, trial_id: str, state: TrialState) -> None:
        trial = self.live[trial_id]
        trained = self._epochs[trial.number]
        best = best_epoch_of(trained, self.objective) if state == TrialState.COMPLETE else None
        values = [best[objective] for objective in self._objectives] if best else None
        try:
            ended = self._record.end(trial, state, values)
            self._record.set(seconds=self.seconds)
        except StorageError as error:
            self.stopping = error
            return
        del self.live[trial_id]
        self.states["running"] -= 1
        del self._epochs[trial.number]
        self._close(ended, curve_of(trained, self.objective), values)
        # What cannot be taken away now is when the search goes on.
        with contextlib.suppress(StorageError):
            tidy(listed(self._folder / f"{ended.number:04}", "*"), [ended], self.objective)
        self._listener(self, trial, STATES[state])

    def _close(self, ended: FrozenTrial, past: Mapping[int, float], values: Sequence[float] | None) -> None:
        """Count an ended trial and learn from it."""
        if self._sampler:
            self._sampler.tell(ended.params, values, past)
        self._flat += 1
        best = list(past.values())[-1] if past else None
        if best is not None and better(self.objective, best, self._best_yet):
            self._best_yet, self._flat = best, 0
        self.states[STATES[ended.state]] += 1

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher beside its own state, to restore what we never restore."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of worth: the study is the searcher's memory, and Tune only insists on a file."""
        Path(checkpoint_path).write_text("the study holds it\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: see `save`."""
