"""The searcher that Ray Tune asks for trials, with an Optuna study that records how each trial really ended.

Tune's own OptunaSearch tells Optuna that a trial which a scheduler stopped is complete, leaves diverged trials in
the state running forever, and drops the last epoch's value. Such a study misleads the sampler and every reader. Here
each epoch is recorded when it is reported, and a trial ends as complete, pruned or failed.
"""

import contextlib
import datetime
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.storage.bucket_cache import list_paths
from huetune.model.metrics import METRICS
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.outcomes import Failure, FailureKind, Stop
from huetune.results.records.study_record import End, Session, StudyRecord
from huetune.results.records.trial_record import STATES, TrialRecord
from huetune.search.spec.space import Space
from huetune.search.tuning.retry_policy import RetryPolicy
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.scoreboard import Curve, Scoreboard
from huetune.search.tuning.stopping_rule import Budget, StoppingRule
from huetune.search.tuning.study_writer import StudyWriter, remove_superseded
from huetune.search.tuning.trial_queue import Job, TrialQueue
from huetune.search.tuning.trial_result import FAILURE, REFUSAL, SCORE, STORAGE_ERROR

Listener = Callable[["StudySearcher", optuna.Trial, str], None]

_LAST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
"""Sorts trials without an end after all others."""


class StudySearcher(Searcher):
    """Gives Tune the next trial and records everything that happens to it in the study.

    It starts from what the study has: ended trials teach the sampler and count toward the budget, and trials that were
    interrupted resume before new ones start.

    All methods that take a `trial_id` mean Tune's id. A trial that is retried or resumed gets a new one.

    Args:
        writer: writes the study.
        folder: the folder of the run with the trials' checkpoints.
        space: the search space; None if only enqueued jobs are trained.
        sampler: draws points when no job is enqueued; None if only enqueued jobs are trained.
        budget: when to start no more trials.
        epochs: number of epochs of a complete trial.
        seed: trial k is trained with seed + k, unless its job has its own seed.
        objectives: keys of `model.metrics.METRICS`; the first one is the score.
        listener: called with the searcher, the trial and an event: "started", "resumed", "epoch", "died", "warning",
            "interrupted" (interrupted until `resume`), or the state in which it ended.
        clock: returns monotonic seconds.

    Attributes:
        ended_by: why no more trials start; None while they do.
        aborted_by: the exception that aborted the search; None while it runs. Other threads may set
            it; running trials are then left to be resumed.
        count_slots: returns how many trials may run at once; None for as many as Tune asks for.
        slots: the last result of `count_slots`.
        trials: the trial budget; once the search has ended, the number of trials.
        ended: number of trials that ended, in whatever state.
        running: the running trials, by Tune's id.
        resumed: Tune's ids of trials that resume or continue an earlier trial and have not reported yet.
    """

    def __init__(
        self,
        writer: StudyWriter,
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
        super().__init__(metric=SCORE, mode=METRICS.objectives[self.objective][:3])
        self.trials, self.epochs, self.ended = budget.trials, epochs, 0
        self.ended_by: Stop | None = None
        self.aborted_by: BaseException | None = None
        self.count_slots: Callable[[], int] | None = None
        self.slots: int | None = None
        self.running: dict[str, optuna.Trial] = {}
        self.resumed: set[str] = set()
        self._folder, self._writer, self._seed, self._budget = folder, writer, seed, budget
        self._listener = listener
        self._queue = TrialQueue(space, sampler)
        seconds_before = StudyRecord.of(writer.study).seconds or 0.0
        self._rule = StoppingRule(budget, self.objective, seconds_before=seconds_before, clock=clock)
        self._retries = RetryPolicy(clock)
        self._scoreboard = Scoreboard(self.objective)
        self._started = 0
        self._restore(writer.study.get_trials(deepcopy=False))

    def _restore(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over the trials that the study has."""
        pairs = [(trial, TrialRecord.of(trial)) for trial in trials]
        for trial, record in sorted(pairs, key=lambda pair: pair[1].end or _LAST):
            self._started += 1
            self._queue.restore(trial, record.key)
            curve = self._scoreboard.restore(trial, record)
            if trial.state.is_finished():
                self._count_ended(trial, curve, trial.values if trial.state == TrialState.COMPLETE else None)

    def enqueue(self, jobs: Iterable[Job]) -> None:
        """Enqueue jobs, which are trained before the sampler draws; see `TrialQueue.enqueue`."""
        self._queue.enqueue(jobs)

    def suggest(  # type: ignore[override]  # Tune's annotation leaves out its own FINISHED and None
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the next trial as a worker expects it, None if it must wait, or FINISHED."""
        # The time budget does not include Ray's own start, which comes before the first call.
        self._rule.start_clock()
        if self.aborted_by:
            return self._no_trial()
        try:
            if self.count_slots and len(self.running) >= self._update_slots(self.count_slots):
                return None
            if self._queue.interrupted:
                return self._resume_trial(trial_id, self._queue.interrupted.popleft())
            self.ended_by = self.ended_by or self._rule.stop(self._started, self._queue.exhausted)
            if self.ended_by:
                self.trials = self._started
                return self._no_trial()
            return self._start_job(trial_id, self._queue.next_job())
        except StorageError as error:
            self.aborted_by = error
            return self._no_trial()

    def _no_trial(self) -> str | None:
        # While trials run a worker may still die, and then its trial is the next one. With none running, None would
        # make Tune ask again for ten minutes.
        return None if self.running else Searcher.FINISHED

    def _update_slots(self, count_slots: Callable[[], int]) -> int:
        """Return how many trials may run at once; a change is recorded in the study, for `huetune watch`."""
        if (slots := count_slots()) != self.slots:
            self.slots = slots
            self._writer.update_study(session=Session(slots, time.time(), self.seconds))
        return slots

    def _start_job(self, trial_id: str, job: Job) -> dict[str, Any]:
        record = TrialRecord(
            # The study numbers its trials in the order in which they are added, and only this process adds any.
            number=self._started,
            state="running",
            params=job.point,
            seed=self._seed + self._started if job.seed is None else job.seed,
            config=asdict(job.config),
            target=self.epochs,
            ray_trial=trial_id,
            # Optuna's own start time changes when a trial resumes.
            begun=datetime.datetime.now(datetime.UTC).isoformat(),
            **job.attributes,
        )
        self._started += 1
        if "continues" in job.attributes:
            self.resumed.add(trial_id)
        return self._run(trial_id, self._writer.start_trial(record, self._queue.domains), (), "started")

    def _resume_trial(self, trial_id: str, trial: FrozenTrial) -> dict[str, Any]:
        self.resumed.add(trial_id)
        return self._run(trial_id, self._writer.mark_running(trial), TrialRecord.of(trial).epochs, "resumed")

    def _run(self, trial_id: str, trial: optuna.Trial, epochs: Sequence[EpochMetrics], event: str) -> dict[str, Any]:
        self.running[trial_id] = trial
        self._scoreboard.start(trial, epochs)
        self._retries.report(trial.number)
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

    @property
    def seconds(self) -> float:
        """Search time so far, including earlier sessions."""
        return self._rule.seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no more trials start; None without a time budget."""
        return self._rule.seconds_left

    @property
    def progress(self) -> Mapping[int, int]:
        """The last recorded epoch of each trial that ran in this session, by trial number; 0 before the first."""
        return self._scoreboard.progress

    @property
    def best(self) -> tuple[float, optuna.Trial | FrozenTrial] | None:
        """The best score so far and its trial; failed trials do not count."""
        return self._scoreboard.best

    def curve(self, trial_id: str) -> Curve:
        """Return the best score so far after each epoch of a running trial, or of the trial that it continues."""
        trial = self.running[trial_id]
        return self._scoreboard.curve(trial.number, TrialRecord.of(trial).continues)

    @property
    def ended_curves(self) -> list[Curve]:
        """The curves of the trials that ended before this session and that no other trial continues."""
        continued = {TrialRecord.of(trial).continues for trial in self._writer.study.get_trials(deepcopy=False)}
        continued |= {TrialRecord.of(trial).continues for trial in self.running.values()}
        continued |= {job.attributes.get("continues") for job in self._queue.jobs}
        return self._scoreboard.curves_before(continued)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch, and earlier ones that a worker could not report before it died."""
        trial = self.running[trial_id]
        if self.aborted_by or any(key in result for key in (FAILURE, STORAGE_ERROR, REFUSAL)):
            return
        self._retries.report(trial.number)
        try:
            for note in result.get("notes", ()):
                self._writer.update_trial(trial, notes=(*TrialRecord.of(trial).notes, note))
                self._listener(self, trial, "warning")
            for metrics in (*result.get("missed", ()), result):
                # A worker that was replaced may report an epoch that its successor has reported, too.
                if metrics["epoch"] > self.progress[trial.number]:
                    self._retries.epoch_finished(trial.number)
                    self._record_epoch(trial, metrics, result)
        except StorageError as error:
            self.aborted_by = error

    def _record_epoch(self, trial: optuna.Trial, metrics: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        epoch = EpochMetrics.from_result(metrics)
        if not self.progress[trial.number]:
            self._writer.update_trial(trial, host=result["host"], pid=result["pid"])
        # Optuna accepts intermediate values only in studies with a single objective.
        value = epoch[self.objective] if len(self._objectives) == 1 else None
        self._writer.write_epoch(trial, epoch, value)
        self._scoreboard.add(trial, epoch)
        self._listener(self, trial, "epoch")

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial as complete, pruned or failed. One whose worker died is left to `worker_died`."""
        if error or trial_id not in self.running or self.aborted_by:
            return
        if result is None:
            self.fail(trial_id, Failure(FailureKind.STOPPED))
        elif STORAGE_ERROR in result:
            # The trial is not at fault, and the next one could not write either: all are left to be resumed.
            self.aborted_by = StorageError(result[STORAGE_ERROR])
        elif REFUSAL in result:
            self.aborted_by = UserError(result[REFUSAL])
        elif FAILURE in result:
            kind = FailureKind(result[FAILURE])
            self.fail(trial_id, Failure(kind, result["detail"], epoch=result["epoch"]))
        else:
            # Tune passes the result on which it stops a trial to this method only, not to on_trial_result.
            self.on_trial_result(trial_id, result)
            if self.aborted_by:
                # The last epoch may not be recorded, so the trial has not ended.
                return
            target = TrialRecord.of(self.running[trial_id]).target or self.epochs
            self._end(trial_id, TrialState.COMPLETE if result["epoch"] >= target else TrialState.PRUNED)

    def worker_died(self, trial_id: str, reason: str, timeout: float | None = None) -> None:
        """Resume a trial whose worker died on another worker, or fail it if its workers died too often.

        Args:
            trial_id: Tune's id.
            reason: Ray's error message.
            timeout: seconds of silence after which a worker ends itself as hung; None for never.
        """
        trial = self.running[trial_id]
        failure = self._retries.failure(trial.number, reason, timeout)
        if not self._retries.count_death(trial.number):
            self.fail(trial_id, failure)
            return
        try:
            self._writer.update_trial(trial, deaths=(*TrialRecord.of(trial).deaths, failure))
            self._queue.interrupted.append(self._writer.mark_interrupted(trial))
        except StorageError as error:
            self.aborted_by = error
            return
        del self.running[trial_id]
        self._listener(self, trial, "died")

    def fail(self, trial_id: str, failure: Failure) -> None:
        """End a trial as failed."""
        trial = self.running[trial_id]
        try:
            self._writer.update_trial(trial, failure=failure)
        except StorageError as error:
            self.aborted_by = error
            return
        self._scoreboard.discard(trial.number)
        self._end(trial_id, TrialState.FAIL)

    @property
    def finished(self) -> bool:
        """Whether the search stopped by itself and all its trials ended."""
        return self.ended_by is not None and not (self.running or self._queue.interrupted or self.aborted_by)

    def close(self) -> None:
        """Mark all running trials as interrupted, and record the search time and why the search ended."""
        # If this cannot be written now, `resume` finds out.
        with contextlib.suppress(StorageError, sqlite3.Error, OSError):
            self._writer.mark_all_interrupted()
            for trial in self.running.values():
                self._listener(self, trial, "interrupted")
            self._writer.update_study(seconds=self.seconds)
            if self.ended_by and self.finished:
                self._writer.update_study(end=End(self.ended_by, self._budget.trials, self.epochs))
            self._writer.back_up()

    def _end(self, trial_id: str, state: TrialState) -> None:
        trial = self.running[trial_id]
        best = self._scoreboard.best_epoch(trial.number) if state == TrialState.COMPLETE else None
        values = [best[objective] for objective in self._objectives] if best else None
        try:
            ended = self._writer.end_trial(trial, state, values)
            self._writer.update_study(seconds=self.seconds)
        except StorageError as error:
            self.aborted_by = error
            return
        del self.running[trial_id]
        self._count_ended(ended, self._scoreboard.end(trial.number), values)
        # What cannot be removed now is removed when the search resumes.
        with contextlib.suppress(StorageError):
            remove_superseded(list_paths(self._folder / f"{ended.number:04}", "*"), [ended], self.objective)
        self._listener(self, trial, STATES[state])

    def _count_ended(self, trial: FrozenTrial, curve: Curve, values: Sequence[float] | None) -> None:
        self._queue.tell(trial.params, values, curve)
        self._rule.trial_ended(list(curve.values())[-1] if curve else None)
        self.ended += 1

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: Tune pickles the searcher in order to restore it, which huetune never does."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write a placeholder: the study holds the searcher's state, but Tune requires a file."""
        Path(checkpoint_path).write_text("the study holds it\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see `save`."""
