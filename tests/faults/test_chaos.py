"""Kills the driver, its workers, Ray's raylet and head at random moments; `make chaos` does it more often."""

import pytest

from tests.faults.chaos import Chaos


@pytest.mark.parametrize(("kills", "trials"), [(6, 10), pytest.param(10, 24, marks=pytest.mark.long)])
def test_random_kills_lose_nothing(kills, trials, tmp_path):
    chaos = Chaos(tmp_path, trials=trials, seed=3)
    chaos.run(kills, pause=(1.5, 6.0))
    assert not chaos.violations, "\n".join(chaos.violations)
    assert sum(chaos.kills.values()) == kills and len(chaos.kills) > 1
