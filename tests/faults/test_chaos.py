"""Six kills at random moments, of the driver, its workers, Ray's raylet and its head; `make chaos` has more."""

from tests.faults.chaos import Chaos


def test_six_kills_lose_nothing(tmp_path):
    chaos = Chaos(tmp_path, trials=10, seed=3)
    chaos.run(6, pause=(1.5, 6.0))
    assert not chaos.violations, "\n".join(chaos.violations)
    assert sum(chaos.kills.values()) == 6 and len(chaos.kills) > 1
