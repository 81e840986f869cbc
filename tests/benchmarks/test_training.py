"""The peer is given its best learning rate, and what is reported of structures is what was measured."""

import math

import pytest

from tests.benchmarks import training
from tests.benchmarks.training import MAIN, OUR_EPOCHS, Structure

ELU, TANH = Structure("elu", False), Structure("tanh", True)


def _curve(*errors, seconds=10.0):
    return [{"epoch": n, "seconds": n * seconds, "chroma_mse": error} for n, error in enumerate(errors, 1)]


def test_peer_has_the_rate_with_the_lowest_best_error():
    by_rate = {0.0005: _curve(0.5, 0.3), 0.001: _curve(0.4, 0.2, 0.3), 0.002: _curve(0.25, math.nan)}
    figures = training.compared({(MAIN, 0): by_rate}, {(MAIN, 0): _curve(0.9, 0.15, seconds=1.0)}, 100)
    # The best epoch is the second, after 20 seconds; ours is so far after 2.
    assert figures["peer_rates"] == [0.001] and figures["seconds"] == [[2.0], [20.0]]
    assert figures["training"] == 10 and figures["reached"] == 1
    assert figures["boxes_a_second"] == pytest.approx([100, 10]) and figures["throughput"] == pytest.approx(10)
    diverged = {rate: _curve(math.nan, math.nan) for rate in by_rate} | {0.002: _curve(0.7, math.nan)}
    assert training._best_rate(diverged) == 0.002


def test_worst_and_median_structures_are_named():
    theirs = {run: {0.001: _curve(0.5, 0.2)} for run in [(MAIN, 0), (MAIN, 1), (MAIN, 2), (ELU, 0), (TANH, 0)]}
    ours = {
        (MAIN, 0): _curve(0.2, 0.2, seconds=2.0),
        (MAIN, 1): _curve(0.3, 0.2, seconds=2.0),
        (MAIN, 2): _curve(0.3, 0.3, 0.2, seconds=0.5),
        (ELU, 0): _curve(*[0.3] * OUR_EPOCHS, seconds=0.25),
        (TANH, 0): _curve(0.3),  # where it diverged
    }
    figures = training.compared(theirs, ours, 100)
    assert figures["training"] == 10 and figures["training_spread"] == [5, pytest.approx(20 / 1.5)]
    assert figures["structures"]["elu"]["training"] == 2 and figures["structures"]["elu"]["reached"] == 0
    assert figures["worst_structure"] == {"tanh, skip": 0} and figures["median_structure"] == {"elu": 2}
    assert set(figures["structures"]) == {"elu", "tanh, skip"} and math.isnan(
        figures["structures"]["tanh, skip"]["throughput"]
    )


def test_structures_without_the_main_one_are_reported_alone():
    figures = training.compared({(ELU, 0): {0.001: _curve(0.5)}}, {(ELU, 0): _curve(0.5, 0.4)}, 100)
    assert "training" not in figures and figures["worst_structure"] == {"elu": 1}
