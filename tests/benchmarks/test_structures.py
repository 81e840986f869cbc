"""Recorded runs of structures are kept, completed where they are missing, and summarized."""

import argparse
import math

import pytest

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from tests.benchmarks import structure_runs, structures
from tests.benchmarks.structure_runs import Epoch, Goal, Run

ELU = Run("garden 100", "patches", "elu", False, 4.0, 0)
RELU = ELU._replace(activation="relu", skip=True)


def _photos(run):
    return run._replace(recipe="photos")


def _curve(*skills, seconds=10.0):
    return [Epoch(number, number * seconds, skill) for number, skill in enumerate(skills, 1)]


def _options(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    structures.add_options(parser)
    return parser.parse_args(arguments)


def test_change_runs_adds_replaces_and_removes(tmp_path):
    path = tmp_path / "runs.csv"
    structure_runs.change_runs(path, {_photos(ELU): _curve(0.5), ELU: _curve(-5.0)})
    structure_runs.change_runs(path, {RELU: _curve(0.1, 0.25, math.nan)}, [ELU])
    read = structure_runs.read_runs(path)
    assert list(read) == [RELU, _photos(ELU)] and read[_photos(ELU)] == _curve(0.5)
    assert read[RELU][:2] == _curve(0.1, 0.25) and math.isnan(read[RELU][2].skill)
    assert path.read_text(encoding="utf-8").splitlines()[:2] == [
        "set,recipe,activation,skip,mse_weight,seed,epoch,cpu_seconds,skill",
        "garden 100,patches,relu,True,4.0,0,1,10.00,0.10000",
    ]


def test_goal_is_reached_at_time_skill_or_divergence():
    goal = Goal(epochs=2, cpu_seconds=25.0, skill=0.5)
    assert not any(goal.reached(curve) for curve in (_curve(), _curve(0.1), _curve(0.1, 0.2)))
    assert all(goal.reached(curve) for curve in (_curve(0.1, 0.2, 0.3), _curve(0.5), _curve(0.1, math.nan)))


def test_photo_goals_use_the_run_of_patches_or_the_set_mean():
    tanh = _photos(ELU)._replace(activation="tanh")
    runs = {ELU: _curve(0.1, 0.4, 0.2, 0.2, 0.2, 0.9), RELU: _curve(-0.1, -0.2, -0.3, -0.4, -0.5, seconds=20.0)}
    goals = structure_runs.photo_goals(runs, [_photos(ELU), _photos(RELU), tanh], until_pass=True)
    # Epochs after the fifth do not count, and a negative skill is not multiplied by 1.15.
    assert goals[_photos(ELU)] == Goal(cpu_seconds=50.0, skill=0.4 * 1.15)
    assert goals[_photos(RELU)] == Goal(cpu_seconds=100.0, skill=-0.1)
    assert goals[tanh] == Goal(cpu_seconds=75.0)
    assert structure_runs.photo_goals(runs, [_photos(ELU)], until_pass=False)[_photos(ELU)] == Goal(cpu_seconds=50.0)
    with pytest.raises(SystemExit, match="'roses-train' has no run of patches"):
        structure_runs.photo_goals(runs, [tanh._replace(set="roses-train")], until_pass=False)


def test_summary_compares_at_equal_time_over_common_seeds():
    runs = {
        ELU: _curve(0.3, 0.4, 0.2, 0.2, 0.2),
        ELU._replace(seed=1): _curve(0.2, 0.2, 0.2, 0.2, 0.2),
        ELU._replace(seed=2): _curve(0.9, 0.9, 0.9, 0.9, 0.9),
        RELU: _curve(0.1, 0.2, 0.3, 0.4, 0.5),
        RELU._replace(activation="tanh"): _curve(0.1, 0.2, 0.3, 0.4, 0.5),
        _photos(ELU): _curve(0.1, 0.4, 0.5, 0.6, 0.6, 0.8),
        _photos(ELU)._replace(seed=1): _curve(0.0, 0.0, 0.01, 0.01, 0.01),
        _photos(RELU): _curve(0.4, 0.6),
        _photos(RELU)._replace(set="roses-train"): _curve(0.1),
    }
    garden, roses = structures.summary(runs).split("\n\n### ")
    rows = [line for line in garden.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| elu, 4 | 2 | 0.30 (0.20 to 0.40) | 0.30 (0.01 to 0.60) | 1.02 | 20.0 of 50.0 (1 of 2 seeds) |",
        "| relu, skip, 4 | 1 | 0.50 | at least 0.60 | 1.20 | 20.0 of 50.0 |",
        "| tanh, skip, 4 | 1 | 0.50 | - | - | - |",
    ]
    assert garden.startswith("### garden 100\n") and garden.endswith(
        "1 of 2 structures reach 1.15 times patches' best skill. "
        "1 of 3 runs are at the baseline (best skill at most 0.01) where patches are not: elu, 4, seed 1."
    )
    assert "| relu, skip, 4 | 1 | - | 0.10 | - | - |" in roses and "0 of 0 structures" in roses


def test_selected_runs_are_ordered_by_seed():
    arguments = ["--sets", "garden 6", "roses-train", "--activations", "relu", "elu", "--skips", "on", "--seeds", "2"]
    runs = structures.selected_runs(_options(*arguments), "photos")
    assert len(runs) == len(set(runs)) == 2 * 2 * 2 and {run.seed for run in runs[:4]} == {0}
    assert {run.set for run in runs} == {"garden 6", "roses-train"} and {run.recipe for run in runs} == {"photos"}
    default = structures.selected_runs(_options(), "patches")
    assert len(default) == 3 * 3 * 6 * 2


def test_options_with_an_unknown_set_are_refused(capsys):
    with pytest.raises(SystemExit):
        _options("--sets", "tulips")
    assert "unknown set 'tulips'" in capsys.readouterr().err


def test_run_config_has_its_recipe_and_structure():
    patches, photos = RELU.config, _photos(RELU).config
    assert patches == with_recipe(patches, "patches") and photos == with_recipe(photos, "photos")
    assert (photos.activation, photos.skip, photos.mse_weight) == ("relu", True, 4.0)
    assert ELU.config.merge_units == PRESETS["model-2"].merge_units and ELU.config.skip is False


def test_record_skips_runs_that_reached_their_goal(tmp_path):
    """The real training runs in this process, one epoch on four photos."""
    path = tmp_path / "runs.csv"
    run = _photos(RELU)._replace(set="garden 6")
    structure_runs.change_runs(path, {ELU: _curve(0.1)})
    curve = structure_runs.train(run, Goal())
    assert len(curve) == 1 and curve[0].epoch == 1 and 0.05 < curve[0].cpu_seconds < 20 and -50 < curve[0].skill < 1
    structure_runs.change_runs(path, {run: curve})
    assert structure_runs.record(path, {run: Goal(), ELU: Goal()}, workers=1) == 0
    assert structure_runs.read_runs(path) == {ELU: _curve(0.1), run: curve}
