"""The trials that a search trains next: interrupted ones, then enqueued jobs, then points that the sampler draws."""

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from huetune.model.config import Config
from huetune.results.records.trial_record import config_key
from huetune.search.spec.space import Space
from huetune.search.tuning.sampler import Point, Sampler


@dataclass(frozen=True)
class Job:
    """A configuration to be trained as a new trial.

    Attributes:
        config: the configuration.
        point: the sampled parameters; empty if the configuration was not drawn from a space.
        seed: the training seed; None for the search's seed plus the trial's number.
        attributes: further fields of the `TrialRecord`, by name. `continues` is the number of a complete trial whose
            training the new trial continues with more epochs.
    """

    config: Config
    point: Point = field(default_factory=dict)
    seed: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class TrialQueue:
    """Chooses what is trained next.

    Args:
        space: the search space; None if only enqueued jobs are trained.
        sampler: draws points when no job is enqueued; None if only enqueued jobs are trained.

    Attributes:
        jobs: enqueued jobs, the next one first.
        interrupted: trials that began and have not ended, the next one first. They resume before a job starts.
    """

    def __init__(self, space: Space | None, sampler: Sampler | None):
        self.jobs: list[Job] = []
        self.interrupted: deque[FrozenTrial] = deque()
        self._space, self._sampler = space, sampler
        self._known_configs: set[str] = set()

    def restore(self, trial: FrozenTrial, config: str) -> None:
        """Add a trial that the study had before this session.

        Args:
            trial: the trial; one that has not ended is resumed first.
            config: the `TrialRecord.key` of its configuration.
        """
        self._known_configs.add(config)
        if self._sampler:
            self._sampler.add(trial.params)
        if not trial.state.is_finished():
            self.interrupted.append(trial)

    def enqueue(self, jobs: Iterable[Job]) -> None:
        """Append jobs, which start in this order before the sampler draws; of equal jobs only the first.

        A job without its own seed is skipped if the study has a trial with its configuration, unless it continues one.
        Jobs are kept in memory, not in the study: a job that never starts leaves no trace there.
        """
        enqueued = {(job.config, job.seed) for job in self.jobs}
        for job in jobs:
            repeats = job.seed is not None or "continues" in job.attributes
            if not repeats and config_key(asdict(job.config)) in self._known_configs:
                continue
            if (job.config, job.seed) not in enqueued:
                enqueued.add((job.config, job.seed))
                self.jobs.append(job)

    @property
    def exhausted(self) -> bool:
        """Whether no job is enqueued and the sampler has no point left."""
        return not self.jobs and (self._sampler is None or self._sampler.exhausted)

    def next_job(self) -> Job:
        """Remove and return the first job, or draw a point of the space; only while the queue is not exhausted."""
        if not self.jobs:
            assert self._sampler and self._space
            point = self._sampler.draw()
            return Job(self._space.config(point), point)
        job = self.jobs.pop(0)
        if self._sampler:
            self._sampler.add(job.point)
        return job

    @property
    def domains(self) -> Mapping[str, BaseDistribution]:
        """The distribution of each parameter that is searched."""
        return self._space.domains if self._space else {}

    def tell(self, point: Mapping[str, Any], values: Sequence[float] | None, curve: Mapping[int, float]) -> None:
        """Pass a trial that ended to the sampler; see `Sampler.tell`."""
        if self._sampler:
            self._sampler.tell(point, values, curve)


def grid_jobs(space: Space, seed: int) -> list[Job]:
    """Return all points of a space's grid in a random order, so that any first part of them is a fair sample."""
    points = space.grid_points()
    random.Random(seed).shuffle(points)
    return [Job(space.config(point), point) for point in points]
