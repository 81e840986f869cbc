"""The correlation of scores with truths uses the recorded runs that are long enough."""

import math

import pytest

from tests.benchmarks import ranks
from tests.benchmarks.ranks import Point
from tests.benchmarks.structure_runs import Epoch, Run

EPOCHS = 2
RELU = Run("garden 100", "photos", "relu", True, 4.0, 0)
ELU = RELU._replace(activation="elu")


def _curve(*skills, seconds=1.0):
    return [Epoch(number, number * seconds, skill) for number, skill in enumerate(skills, 1)]


def test_points_of_runs_use_epochs_within_their_time():
    short, late = [0.1, 0.2, 0.3], [0.1] * 9
    runs = {
        RELU: _curve(0.2, 0.1, *late[:7], 0.5, 0.9),
        RELU._replace(recipe="patches"): _curve(0.3, 0.6, 0.9, seconds=4.9),
        RELU._replace(seed=1): _curve(*short),
        ELU: _curve(0.1, math.nan),
        ELU._replace(recipe="patches"): _curve(0.3, seconds=5.0),
    }
    requested = [RELU, RELU._replace(seed=1), ELU]
    points = ranks.points_of(runs, requested, EPOCHS, 5 * EPOCHS)
    assert points == {
        "relu, skip, 4": Point({0: 0.2}, {"photos": {0: 0.5}, "patches": {0: 0.6}}),
        "elu, skip, 4": Point({0: 0.1}, {"photos": {0: 0.1}, "patches": {}}),
    }
    assert points["relu, skip, 4"].truth([0]) == (0.6, "patches")
    assert points["elu, skip, 4"].truth([0]) == (0.1, "photos")


def _points(scores, truths):
    return {
        str(number): Point(dict(enumerate(score)), {"photos": dict(enumerate(truth)), "patches": {}})
        for number, (score, truth) in enumerate(zip(scores, truths, strict=True))
    }


def test_correlation_is_of_means_and_of_single_seeds():
    truths = [(0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.5, 0.6)]
    same = ranks.correlation(_points(truths, truths), 2)
    assert same["spearman"] == pytest.approx(1) and same["of_one_seed"] == pytest.approx([1, 1])
    assert same["points"] == 4 and same["missing"] == 0 and same["truth_by"] == {"patches": 0, "photos": 4}
    # The scores of the second seed are in reverse order, and larger.
    scores = [(0.1, 9.0), (0.2, 6.0), (0.3, 5.0), (0.4, 2.0)]
    mixed = ranks.correlation(_points(scores, truths), 2)
    assert mixed["spearman"] == pytest.approx(-1) and mixed["of_one_seed"] == pytest.approx([-1, 1])
    assert mixed["truth_of_one_seed"] == pytest.approx([1, 1])


def test_correlation_skips_points_without_all_seeds():
    truths = [(0.1, 0.2), (0.2, 0.1), (0.3, 0.4), (0.4,)]
    result = ranks.correlation(_points(truths, truths), 2)
    assert result["points"] == 3 and result["missing"] == 1
    assert ranks.correlation(_points(truths[2:], truths[2:]), 2) == {"points": 1, "missing": 1}


def test_markdown_names_the_recipe_of_each_truth():
    points = {"relu, 4": Point({0: 0.2}, {"photos": {0: 0.5}, "patches": {0: 0.6}}), "elu, 4": Point()}
    assert ranks.markdown(points, 1).splitlines()[2:] == ["| relu, 4 | 0.20 | 0.60 | patches |"]
