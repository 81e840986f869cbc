"""Who wins, of replicates that are there, missing, or failed."""

import optuna
import pytest
from optuna.trial import TrialState

from huetune.results.analysis.replicates import compare_with_baseline, ranks, verdict
from huetune.results.tables.trial_table import rows

A, B = {"mse_weight": 1.0}, {"mse_weight": 2.0}


@pytest.fixture
def study():
    """A search that found two good configurations."""
    study = optuna.create_study()
    study.set_user_attr("objective", "chroma_mse")
    study.set_user_attr("zero_line", {"chroma_mse": 0.5})
    study.set_user_attr("parameters", [])
    for config, score in ((A, 0.1), (B, 0.2)):
        trial = study.ask()
        trial.set_user_attr("config", config)
        trial.set_user_attr("target", 8)
        study.tell(trial, score)
    return study


def _replicates(*trainings):
    study = optuna.create_study()
    study.set_user_attr("finalists", [0, 1])
    for config, score in trainings:
        _add(study, config, score)
    return study


def _add(study, config, score, target=8):
    trial = study.ask()
    trial.set_user_attr("config", config)
    trial.set_user_attr("target", target)
    if isinstance(score, str):
        trial.set_user_attr("error", score)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, score)


def test_ranks_follow_mean_over_fresh_seeds(study):
    replicates = _replicates((A, 0.3), (A, 0.32), (B, 0.2), (B, 0.21))
    assert ranks(study, replicates) == {1: 1, 0: 2}
    line = verdict(study, replicates)
    assert (
        line
        and line.startswith("trial 1 wins: chroma_mse 0.205 (95% CI ")
        and "significantly different from trial 0: -0." in line
    )
    assert "; better than the mean-color baseline (0.5); " in line


def test_ranks_are_absent_before_all_are_trained(study):
    assert ranks(study, _replicates((A, 0.3), (A, 0.32), (B, 0.2))) == {} == ranks(study, None)
    assert verdict(study, _replicates((A, 0.3), (A, 0.32), (B, 0.2))) is None


def test_ranks_put_diverged_last_and_ignore_other_failures(study):
    good = [(A, 0.3), (A, 0.32), (B, 0.2), (B, 0.21)]
    assert ranks(study, _replicates(*good, (B, "diverged in epoch 1: train_loss is nan"))) == {0: 1, 1: 2}
    assert ranks(study, _replicates(*good, (B, "the search ended: No space left on device"))) == {1: 1, 0: 2}


def test_ranks_pass_to_trial_that_continues_finalist(study):
    """After an extension, whose trial 2 has the settings of trial 0, whose replicates have more epochs."""
    further = study.ask()
    for name, value in (("config", A), ("target", 10), ("continues", 0)):
        further.set_user_attr(name, value)
    study.tell(further, 0.1)
    replicates = _replicates((A, 0.3), (A, 0.32), (B, 0.2), (B, 0.21))
    replicates.set_user_attr("finalists", [0, 1, 2])
    assert ranks(study, replicates) == {1: 1, 0: 2}, "what was confirmed stays so until the new ones are trained"
    _add(replicates, A, 0.25, 10)
    assert ranks(study, replicates) == {}
    _add(replicates, A, 0.26, 10)
    assert ranks(study, replicates) == {2: 1}
    found = {row["trial"]: row["confirmed"] for row in rows(study, replicates)}
    assert found == {0: None, 1: None, 2: pytest.approx(0.255)}


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((0.6, 0.61), "worse than the mean-color baseline (0.5)"),
        ((0.4, 0.55), "no significant difference from the mean-color baseline (0.5)"),
        ((0.2, 0.21), "better than the mean-color baseline (0.5)"),
    ],
)
def test_verdict_uses_interval_against_baseline(scores, words, study):
    """A mean on the better side of it is not enough: the interval must leave the baseline out."""
    line = verdict(study, _replicates((A, 0.9), (A, 0.92), *((B, score) for score in scores)))
    assert line and f"; {words}; " in line


@pytest.mark.parametrize(
    ("objective", "score", "again", "baseline", "text"),
    [
        ("chroma_mse", 0.4, (), 0.5, "better than the mean-color baseline (0.5) in one training"),
        ("chroma_mse", 0.4, (0.6,), 0.5, "better than the mean-color baseline (0.5) in one training"),
        ("chroma_mse", 0.6, (), 0.5, "worse than the mean-color baseline (0.5) in one training"),
        ("chroma_mse", 0.5, (), 0.5, "as good as the mean-color baseline (0.5) in one training"),
        ("skill", 0.1, (0.1, 0.1), 0.0, "better than the mean-color baseline (0)"),
        ("skill", 0.1, (-0.1, -0.11), 0.0, "worse than the mean-color baseline (0)"),
        ("skill", 0.1, (0.0, 0.2, 0.1), 0.0, "no significant difference from the mean-color baseline (0)"),
    ],
)
def test_baseline_comparison_names_what_decides(objective, score, again, baseline, text):
    assert str(compare_with_baseline(objective, score, again, baseline)) == text
