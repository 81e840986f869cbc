"""Effects that are known are found, and only these are sure."""

import itertools

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from huetune.results.analysis.effects import (
    MeasuredConfig,
    effect_rows,
    effects,
    importance_line,
    importances,
    measured_configs,
)
from tests.results.synthetic_run import make_run


def _score(point, rng):
    return 0.05 + 0.01 * (not point["skip"]) + 0.02 * (point["activation"] == "relu") + rng.normal(0, 0.0005)


def test_effect_of_choice_comes_from_pairs(rng):
    points = [
        {"skip": skip, "activation": activation, "mse_weight": weight}
        for skip, activation, weight in itertools.product((True, False), ("relu", "silu"), (1.0, 2.0, 4.0))
    ]
    trainings = [MeasuredConfig(point, _score(point, rng)) for point in points]
    found = {(effect.setting, effect.value): effect for effect in effects(trainings, list(points[0]), "chroma_mse")}
    skip = found["skip", "yes" if ("skip", "yes") in found else "no"]
    assert (
        skip.basis == "6 pairs"
        and skip.estimate.significant
        and abs(skip.estimate.value) == pytest.approx(0.01, abs=0.001)
    )
    activation = next(effect for (name, _), effect in found.items() if name == "activation")
    assert abs(activation.estimate.value) == pytest.approx(0.02, abs=0.001)
    assert len([name for name, _ in found if name == "mse_weight"]) == 3, "a point for each weight"


def test_effects_of_confounded_settings_are_separated(rng):
    """No two trials agree in the weight, and relu was mostly tried without skip: a plain mean would blame skip."""
    trainings = []
    for number in range(40):
        skip = bool(number % 2)
        relu = bool(rng.random() < (0.2 if skip else 0.8))
        point = {"skip": skip, "activation": "relu" if relu else "silu", "mse_weight": 1.0 + number / 10}
        trainings.append(MeasuredConfig(point, _score(point, rng)))
    found = [
        effect for effect in effects(trainings, ["skip", "activation", "mse_weight"], "chroma_mse") if effect.reference
    ]
    by_name = {effect.setting: effect for effect in found}
    assert all("adjusted" in effect.basis for effect in found)
    assert abs(by_name["skip"].estimate.value) == pytest.approx(0.01, abs=0.001)
    plain = np.mean([one.score for one in trainings if not one.params["skip"]]) - np.mean(
        [one.score for one in trainings if one.params["skip"]]
    )
    assert plain > 0.015


def test_effect_of_irrelevant_setting_is_not_significant():
    # One of twenty draws is unlucky: that is what 95% means.
    rng = np.random.default_rng(1)
    points = [{"skip": skip, "mse_weight": float(weight)} for skip in (True, False) for weight in range(1, 9)]
    trainings = [MeasuredConfig(point, 0.05 + rng.normal(0, 0.001)) for point in points]
    [effect] = [
        effect for effect in effects(trainings, ["skip", "mse_weight"], "chroma_mse") if effect.setting == "skip"
    ]
    assert effect.basis == "8 pairs" and not effect.estimate.significant


def test_effect_rows_bars_are_proportional_to_scores():
    trainings = [MeasuredConfig({"mse_weight": float(weight)}, weight / 100) for weight in range(1, 16)]
    rows = effect_rows(effects(trainings, ["mse_weight"], "chroma_mse"))
    assert [row["value"] for row in rows] == ["1 to 3", "4 to 6", "7 to 9", "10 to 12", "13 to 15"]
    assert [len(row["curve"]) for row in rows] == sorted(len(row["curve"]) for row in rows)
    assert effect_rows(effects([], ["mse_weight"], "chroma_mse")) == []


def test_effects_handle_setting_ruled_out_by_condition(rng):
    """Without skip there is no merge_units; the difference is that of skip at its usual size."""
    trainings = []
    for number in range(40):
        skip = bool(number % 2)
        point = {"skip": skip, "merge_units": 64 + 2 * number if skip else None}
        trainings.append(MeasuredConfig(point, _score({**point, "activation": "silu"}, rng)))
    [effect] = [effect for effect in effects(trainings, ["skip", "merge_units"], "chroma_mse") if effect.reference]
    assert effect.estimate.significant and abs(effect.estimate.value) == pytest.approx(0.01, abs=0.001)


def test_effect_intervals_stay_within_metric_limits():
    """Two errors of each mse_weight: Student's interval of their mean would begin below 0."""
    errors = [(weight, error) for weight in (1.0, 2.0) for error in (0.02, 0.09)]
    squared = effect_rows(
        effects(
            [MeasuredConfig({"mse_weight": weight}, error) for weight, error in errors], ["mse_weight"], "chroma_mse"
        )
    )
    skill = effect_rows(
        effects(
            [MeasuredConfig({"mse_weight": weight}, 1 - error) for weight, error in errors], ["mse_weight"], "skill"
        )
    )
    assert [row["low"] for row in squared] == [0, 0] and all(row["high"] > 0.4 for row in squared)
    assert [row["high"] for row in skill] == [1, 1] and all(row["low"] < 0.6 for row in skill)


def test_importance_of_few_trials_is_absent(tmp_path):
    few, enough = (
        make_run(tmp_path / name, many, states=(TrialState.COMPLETE,)) for name, many in (("few", 49), ("enough", 50))
    )
    assert importances(few.search_study) == ({}, 49)
    assert importance_line(few.search_study) == "importance: needs at least 50 complete trials, this search has 49"
    shares, count = importances(enough.search_study)
    assert count == 50 and sum(shares.values()) == pytest.approx(1)
    assert importance_line(enough.search_study).startswith(
        "importance (Optuna's, from 50 complete trials; pruned ones do not"
    )


def test_importance_uses_maximized_first_objective(tmp_path):
    """What makes skill high makes chroma_mse low: one is a falling line of the other."""
    both, one = (
        make_run(tmp_path / "-".join(names), 60, states=(TrialState.COMPLETE,), objectives=names)
        for names in (("skill", "chroma_ratio_error"), ("chroma_mse",))
    )
    assert importances(both.search_study)[0] == pytest.approx(importances(one.search_study)[0])


def test_equal_numbers_share_one_curve_point():
    trainings = [MeasuredConfig({"positions": 2 if number < 12 else 7}, 0.1) for number in range(20)]
    assert [effect.value for effect in effects(trainings, ["positions"], "chroma_mse")] == ["2", "7"]


def test_configuration_with_replicates_counts_once(tmp_path):
    once, again = make_run(tmp_path / "once", 20), make_run(tmp_path / "again", 20, finalists=3, seeds=5)
    trained, trained_again = measured_configs(*once.snapshot()), measured_configs(*again.snapshot())
    assert [one.params for one in trained_again] == [one.params for one in trained]
    moved = [one.score != other.score for one, other in zip(trained_again, trained, strict=True)]
    assert sum(moved) == 3, "a finalist's score is the mean of all of its trainings"
    trial = once.search_study.trials[0]
    further = create_trial(
        value=0.01,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**trial.user_attrs, "target": 12, "continues": 0},
    )
    once.search_study.add_trial(further)
    trained = measured_configs(*once.snapshot())
    assert [one.score for one in trained][:1] == [0.01] and len(trained) == len(trained_again)


def test_effects_handle_number_that_never_varied(rng):
    """Nor one that a condition ruled out in all but one."""
    trainings = []
    for number in range(40):
        point = {"skip": bool(number % 2), "merge_units": 96 if number == 5 else None, "mse_weight": 1.0 + number / 10}
        trainings.append(MeasuredConfig(point, _score({**point, "activation": "silu"}, rng)))
    [effect] = [effect for effect in effects(trainings, list(trainings[0].params), "chroma_mse") if effect.reference]
    assert effect.estimate.significant and abs(effect.estimate.value) == pytest.approx(0.01, abs=0.001)
