"""The peer has its best learning rate, and the reported results are those of the measured curves."""

import math

import pytest

from tests.benchmarks import training
from tests.benchmarks.training import MAIN, OUR_EPOCHS, Structure

ELU, TANH = Structure("elu", False), Structure("tanh", True)


def _curve(*errors, seconds=10.0):
    return [{"epoch": n, "seconds": n * seconds, "chroma_mse": error} for n, error in enumerate(errors, 1)]


def test_compared_uses_the_peer_rate_with_the_lowest_error():
    by_rate = {0.0005: _curve(0.5, 0.3), 0.001: _curve(0.4, 0.2, 0.3), 0.002: _curve(0.25, math.nan)}
    results = training.compared({(MAIN, 0): by_rate}, {(MAIN, 0): _curve(0.9, 0.15, seconds=1.0)}, 100)
    # The best epoch of the peer is the second, after 20 seconds; huetune reaches its error after 2 seconds.
    assert results["peer_rates"] == [0.001] and results["seconds"] == [[2.0], [20.0]]
    assert results["training"] == 10 and results["reached"] == 1
    assert results["patches_per_second"] == pytest.approx([100, 10]) and results["throughput"] == pytest.approx(10)
    diverged = {rate: _curve(math.nan, math.nan) for rate in by_rate} | {0.002: _curve(0.7, math.nan)}
    assert training._best_rate(diverged) == 0.002


def test_compared_names_the_worst_and_median_structure():
    theirs = {run: {0.001: _curve(0.5, 0.2)} for run in [(MAIN, 0), (MAIN, 1), (MAIN, 2), (ELU, 0), (TANH, 0)]}
    ours = {
        (MAIN, 0): _curve(0.2, 0.2, seconds=2.0),
        (MAIN, 1): _curve(0.3, 0.2, seconds=2.0),
        (MAIN, 2): _curve(0.3, 0.3, 0.2, seconds=0.5),
        (ELU, 0): _curve(*[0.3] * OUR_EPOCHS, seconds=0.25),
        (TANH, 0): _curve(0.3),  # It diverged here.
    }
    results = training.compared(theirs, ours, 100)
    assert results["training"] == 10 and results["training_spread"] == [5, pytest.approx(20 / 1.5)]
    assert results["structures"]["elu"]["training"] == 2 and results["structures"]["elu"]["reached"] == 0
    assert results["worst_structure"] == {"tanh, skip": 0} and results["median_structure"] == {"elu": 2}
    assert set(results["structures"]) == {"elu", "tanh, skip"} and math.isnan(
        results["structures"]["tanh, skip"]["throughput"]
    )


def test_compared_without_main_reports_the_other_structures():
    results = training.compared({(ELU, 0): {0.001: _curve(0.5)}}, {(ELU, 0): _curve(0.5, 0.4)}, 100)
    assert "training" not in results and results["worst_structure"] == {"elu": 1}
