"""Space files: every kind of domain, and how the file may be encoded."""

from optuna.distributions import FloatDistribution, IntDistribution

from huetune.model.config import Config
from huetune.search.spec.space_file import read_space
from tests.search.builders import BASE


def test_read_space_accepts_every_kind_of_domain(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "mse_weight = {low = 1, high = 8, log = true}\n[dropout]\nlow = 0.0\nhigh = 0.6\nstep = 0.2\n"
        "[merge_units]\nlow = 32\nhigh = 128\nstep = 32\n[skip]\nchoices = [true]\n[positions]\nvalue = 7\n",
        encoding="utf-8",
    )
    space = read_space(path, BASE)
    assert space.domains["merge_units"] == IntDistribution(32, 128, step=32)
    assert space.domains["dropout"] == FloatDistribution(0.0, 0.6, step=0.2)
    assert space.base.positions == 7 and "positions" not in space.domains
    assert space.config({"mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "skip": True}) == Config.of(
        {**BASE.__dict__, "mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "positions": 7}
    )


def test_read_space_accepts_a_byte_order_mark(tmp_path):
    """Editors on Windows write one before the first letter."""
    (tmp_path / "space.toml").write_bytes("\ufeff[mse_weight]\nlow = 1\nhigh = 2\n".encode())
    assert read_space(tmp_path / "space.toml", BASE).domains["mse_weight"] == FloatDistribution(1.0, 2.0)
