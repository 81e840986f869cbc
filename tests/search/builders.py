"""Builders that several tests share: a search space, a specification, a study in memory, a searcher without Ray."""

from pathlib import Path
from typing import Any

import optuna

from huetune.model.metrics import METRICS
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.search.spec.search_spec import Search
from huetune.search.spec.space import Space
from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter

BASE = with_recipe(PRESETS["model-2"], "photos")
"""The configuration whose settings the spaces of tests vary."""
SPACE = parse_space(DEFAULT_SPACE, BASE)


def make_search(**options: Any) -> Search:
    """Return a specification that is valid unless an option makes it invalid."""
    return Search(**{"name": "fine", "storage": Path("runs"), "space": SPACE, **options})


def make_study() -> optuna.Study:
    """Return an empty study in memory."""
    return optuna.create_study(sampler=optuna.samplers.RandomSampler())


def make_searcher(
    study: optuna.Study,
    space: Space,
    budget: Budget,
    *,
    epochs: int,
    sampler: str | None = "tpe",
    seed: int = 0,
    objective: str = "chroma_mse",
    **options: Any,
) -> StudySearcher:
    """Return a searcher that a test calls in place of Tune, and that writes no files.

    Args:
        study: that it writes to.
        space: that it searches.
        budget: of the search.
        epochs: of a complete trial.
        sampler: one of `SEARCHERS`; None for trials that the test enqueues.
        seed: of the first trial.
        objective: that it ranks by.
        options: further arguments of `StudySearcher`.
    """
    directions = [METRICS.objectives[objective]]
    return StudySearcher(
        StudyWriter(study),
        Path("/nonexistent"),
        space=space,
        sampler=Sampler(space, sampler, directions, len(study.trials), budget.trials) if sampler else None,
        budget=budget,
        epochs=epochs,
        seed=seed,
        objectives=[objective],
        **options,
    )
