"""The effect of each setting on the score, with confidence intervals, and the comparison of two configurations."""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from huetune.data_tools.common.errors import NoTrialError, UserError
from huetune.data_tools.common.plural import counted
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.model.presets import PRESETS, with_preset
from huetune.results.analysis.intervals import Estimate, difference, format_estimate, mean, t_quantile
from huetune.results.analysis.replicates import replicates_by_config, replicates_of
from huetune.results.records.baseline import STAYED
from huetune.results.records.run import TRIAL_NUMBER, Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, config_key, find_trial
from huetune.results.records.value_text import format_value

MIN_PAIRS = 3
"""Smallest number of pairs of configurations from which a difference is estimated."""
MIN_IMPORTANCE_TRIALS = 50
"""Smallest number of complete trials for which importances are computed. PED-ANOVA compares the best tenth of the
trials with all, and Optuna requires five trials in that tenth. In 60 simulated searches each, in which `skip` moves the
score by two standard deviations of the noise, `skip` was the most important of three settings in 0 searches with 4
complete trials, in 15 with 12, 29 with 30, 39 with 50 and 56 with 100."""
MAX_CURVE_POINTS = 5
"""Largest number of points of the curve of a numeric setting."""
MAX_BAR_CHARACTERS = 12
"""Length of the bar of the largest score of a curve."""


@dataclass(frozen=True)
class Effect:
    """The effect of one value of a setting.

    Attributes:
        setting: name of the setting.
        value: the value, or a range of values, as text.
        reference: the value that it is compared with; None if `estimate` is the mean score itself.
        estimate: mean score, or difference of the score to that of the reference value.
        basis: what the estimate is based on, such as "6 pairs".
    """

    setting: str
    value: str
    reference: str | None
    estimate: Estimate
    basis: str


@dataclass(frozen=True)
class MeasuredConfig:
    """A configuration with the mean score of its complete trainings.

    Attributes:
        params: its searched parameters by name; None for a parameter that a condition rules out.
        score: mean score of its trainings.
        at_baseline: whether any of the trainings stayed at the mean-color baseline.
    """

    params: Mapping[str, Any]
    score: float
    at_baseline: bool = False


def measured_configs(study: optuna.Study, replicates: optuna.Study | None) -> list[MeasuredConfig]:
    """Return all configurations of a search that have a complete trial, each once.

    Replicates are averaged with their trial and are no observations of their own: what a model of the settings does not
    explain about a configuration is the same in all of its trainings, so intervals that took them for independent would
    be too narrow.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.
    """
    groups, parameters = replicates_by_config(replicates), StudyRecord.of(study).parameters
    trials: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.values:
            trials.setdefault(TrialRecord.of(trial).key, []).append(trial)
    found = []
    for group in trials.values():
        # A trial that was trained further counts only with its most epochs.
        lengths = [TrialRecord.of(trial).planned_epochs for trial in group]
        most = max(lengths)
        longest = [trial for trial, length in zip(group, lengths, strict=True) if length == most]
        repeated = replicates_of(longest[0], groups)
        scores = [*(trial.values[0] for trial in longest), *(repeated.scores if repeated else ())]
        params = {name: longest[0].params.get(name) for name in parameters}
        at_baseline = any(TrialRecord.of(trial).note for trial in (*longest, *(repeated.trials if repeated else ())))
        found.append(MeasuredConfig(params, float(np.mean(scores)), at_baseline))
    return found


def effects(configs: Sequence[MeasuredConfig], parameters: Sequence[str], objective: str) -> list[Effect]:
    """Return the effect of each searched setting on the score.

    For settings with choices: the difference of each value to the most frequent one. It is estimated from pairs of
    configurations that agree in all other settings, if there are enough pairs, or else from a linear model of all
    settings (ordinary least squares with t intervals). A plain mean would attribute to a value the effects of the other
    settings that the sampler combined it with. For numeric settings: the mean scores of ranges that contain about as
    many configurations each.

    Args:
        configs: configurations with their mean scores.
        parameters: names of the searched settings.
        objective: the metric that the scores are, a key of `model.metrics.METRICS`; intervals of means are clipped to
            its limits.
    """
    found = []
    for name in parameters:
        values = [config.params[name] for config in configs if config.params[name] is not None]
        if any(isinstance(value, (bool, str)) for value in values):
            found += _choice_effects(configs, name, values, parameters)
        elif values:
            found += _number_effects(configs, name, METRICS[objective].limits)
    return found


def _choice_effects(
    configs: Sequence[MeasuredConfig], name: str, values: Sequence[Any], parameters: Sequence[str]
) -> list[Effect]:
    ordered = sorted(set(values), key=lambda value: (-values.count(value), str(value)))
    reference = ordered[0]
    model = _adjusted_differences(configs, name, reference, parameters)
    found = []
    for value in ordered[1:]:
        pairs = _pair_differences(configs, name, value, reference)
        if len(pairs) >= MIN_PAIRS:
            estimate, basis = mean(pairs), f"{len(pairs)} pairs"
        elif value in model:
            estimate, basis = model[value], f"{len(configs)} configurations, adjusted"
        else:
            continue
        found.append(Effect(name, format_value(value), format_value(reference), estimate, basis))
    return found


def _pair_differences(configs: Sequence[MeasuredConfig], name: str, value: Any, reference: Any) -> list[float]:
    """Return the differences in score between configurations that agree in all settings but one."""
    groups: dict[Any, dict[tuple, list[float]]] = {value: {}, reference: {}}
    for config in configs:
        if config.params[name] in groups:
            rest = tuple((other, config.params[other]) for other in config.params if other != name)
            groups[config.params[name]].setdefault(rest, []).append(config.score)
    return [
        float(np.mean(scores) - np.mean(groups[reference][rest]))
        for rest, scores in groups[value].items()
        if rest in groups[reference]
    ]


def _adjusted_differences(
    configs: Sequence[MeasuredConfig], name: str, reference: Any, parameters: Sequence[str]
) -> dict[Any, Estimate]:
    """Return the difference of each value to the reference value with all other settings held constant.

    The result is empty if the settings vary together, so that their effects cannot be separated.
    """
    columns: dict[tuple[str, Any], NDArray[np.float64]] = {("", None): np.ones(len(configs))}
    for other in parameters:
        values = [config.params[other] for config in configs]
        if any(isinstance(value, (bool, str)) for value in values):
            known = [value for value in values if value is not None]
            omitted = reference if other == name else max(set(known), key=known.count)
            # A setting that a condition rules out has no value and so no column.
            for value in set(values) - {omitted, None}:
                columns[other, value] = np.array([float(one == value) for one in values])
        else:
            # The column is centered, so that a configuration without the setting counts as its mean.
            column = np.array([math.nan if one is None else float(one) for one in values])
            known = column[~np.isnan(column)]
            # A setting that never varied would be collinear with the constant.
            if known.size and known.min() < known.max():
                columns[other, None] = np.nan_to_num(column - known.mean())
    design = np.stack(list(columns.values()), axis=1)
    scores = np.array([config.score for config in configs])
    freedom = len(configs) - int(np.linalg.matrix_rank(design))
    if freedom < 2 or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}
    weights, *_ = np.linalg.lstsq(design, scores, rcond=None)
    variance = float(np.square(scores - design @ weights).sum()) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    quantile = t_quantile(freedom)
    return {
        value: Estimate(float(weight), float(weight - quantile * error), float(weight + quantile * error))
        for (other, value), weight, error in zip(columns, weights, errors, strict=True)
        if other == name
    }


def _number_effects(configs: Sequence[MeasuredConfig], name: str, limits: tuple[float, float]) -> list[Effect]:
    known = [config for config in configs if config.params[name] is not None]
    ordered = sorted(known, key=lambda config: config.params[name])
    values = [config.params[name] for config in ordered]
    distinct = sorted(set(values))
    if len(distinct) <= MAX_CURVE_POINTS:
        bins = [distinct.index(value) for value in values]
    else:
        # The bins contain about equally many configurations, but equal values stay together.
        count = max(1, min(MAX_CURVE_POINTS, len(ordered) // 3))
        bins = [values.index(value) * count // len(values) for value in values]
    found = []
    for index in dict.fromkeys(bins):
        part = [config for config, its_bin in zip(ordered, bins, strict=True) if its_bin == index]
        low, high = part[0].params[name], part[-1].params[name]
        text = format_value(low) if low == high else f"{format_value(low)} to {format_value(high)}"
        basis = counted(len(part), "configuration")
        found.append(Effect(name, text, None, mean([config.score for config in part], limits), basis))
    return found


def effect_rows(found: Sequence[Effect]) -> list[dict[str, Any]]:
    """Return effects as rows of a table, with a bar for each point of a curve.

    Returns:
        Rows with the columns `setting`, `value`, `against` (the reference value), `score`, `difference`, `low` and
        `high` (the ends of the interval), `sure` (whether a difference is significant), `curve` (the bar) and
        `rests_on` (what the estimate is based on); None where there is no value.
    """
    curves = {
        name: [effect.estimate.value for effect in group if effect.reference is None]
        for name, group in itertools.groupby(found, key=lambda effect: effect.setting)
    }
    rows = []
    for effect in found:
        estimate, is_score = effect.estimate, effect.reference is None
        rows.append(
            {
                "setting": effect.setting,
                "value": effect.value,
                "against": effect.reference,
                "score": estimate.value if is_score else None,
                "difference": None if is_score else estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "sure": None if is_score or estimate.low is None else estimate.significant,
                "curve": _bar(estimate.value, curves[effect.setting]) if is_score else None,
                "rests_on": effect.basis,
            }
        )
    return rows


def _bar(value: float, curve: Sequence[float]) -> str:
    low, high = min(curve), max(curve)
    return "▇" * (1 + round((MAX_BAR_CHARACTERS - 1) * (value - low) / (high - low))) if high > low else "▇"


def importances(study: optuna.Study) -> tuple[dict[str, float], int]:
    """Return Optuna's importance (PED-ANOVA) of each setting, and the number of complete trials.

    The importances are shares of 1. There are none below `MIN_IMPORTANCE_TRIALS` complete trials.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(complete) < MIN_IMPORTANCE_TRIALS:
        return {}, len(complete)
    # With several objectives the first one counts. For PED-ANOVA a lower target is better.
    sign = 1 if METRICS[StudyRecord.of(study).objective].minimized else -1
    target = (lambda trial: sign * trial.values[0]) if len(study.directions) > 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna.importance.get_param_importances(study, target=target), len(complete)
        except (RuntimeError, ValueError):
            # All scores are equal, or no setting is in all trials.
            return {}, len(complete)


def importance_line(study: optuna.Study) -> str:
    """Return Optuna's importance of each setting as a line, or why there is none."""
    found, count = importances(study)
    if count < MIN_IMPORTANCE_TRIALS:
        return f"importance: needs at least {MIN_IMPORTANCE_TRIALS} complete trials, this search has {count}"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
    return f"importance (Optuna's, from {count} complete trials; pruned ones do not count): {shares or 'not known'}"


def baseline_line(configs: Sequence[MeasuredConfig]) -> str | None:
    """Return a line that counts the configurations with trainings at the baseline; None if there are none."""
    if not (count := sum(config.at_baseline for config in configs)):
        return None
    return (
        f"{count} of {len(configs)} configurations {STAYED} in one or more trainings: effects and importance include "
        "these trainings, which did not work, and so do not compare the models alone"
    )


def config_of(run: Run, study: optuna.Study, name: str) -> Config:
    """Return the configuration of a preset, or of a trial of a run.

    A preset takes the structure of the model from the preset, and the recipe from the run's own configuration.

    Args:
        run: the run of a search.
        study: its study.
        name: name of a preset, or number of a trial.

    Raises:
        UserError: the name is neither a preset nor a number.
        NoTrialError: there is no trial with that number.
    """
    if name in PRESETS:
        return with_preset(Config.of(run.manifest["base"]), name)
    if not TRIAL_NUMBER.fullmatch(name):
        raise UserError(f"{name!r}: neither a preset ({', '.join(PRESETS)}) nor the number of a trial")
    if trial := find_trial(study, int(name)):
        return TrialRecord.of(trial).configuration
    raise NoTrialError(f"run {run.name!r} has no trial {name}; see them with `{run.command('trials')}`")


def comparison(run: Run, first: str, second: str) -> list[str]:
    """Return lines that compare the replicates of two presets or trials, in percent with a 95% interval.

    Scores of the search do not count, because a trial may have been selected for a lucky score.

    Args:
        run: the run of a search.
        first: name of a preset, or number of a trial.
        second: name of a preset, or number of a trial; 100% is its mean score.

    Raises:
        NoTrialError: one of them has no complete replicate.
    """
    study, replicates = run.snapshot()
    objective = StudyRecord.of(study).objective
    groups = replicates_by_config(replicates)
    scores: list[tuple[float, ...]] = []
    for name in (first, second):
        group = groups.get(config_key(asdict(config_of(run, study, name))))
        if not group or not group.scores:
            raise NoTrialError(f"run {run.name!r} has no replicates of {name!r}; train them with --seeds 3")
        scores.append(group.scores)
    gap = difference(*scores)
    base = abs(float(np.mean(scores[1])))
    names = [f"trial {name}" if TRIAL_NUMBER.fullmatch(name) else name for name in (first, second)]
    gap_text = format_estimate(gap, 100 / base, "%") if base else format_estimate(gap)
    sentence = f"{names[0]} against {names[1]}: {objective} {gap_text}"
    each = [
        f"{name} {format_estimate(mean(values, METRICS[objective].limits), seeds=len(values))}"
        for name, values in zip(names, scores, strict=True)
    ]
    return [f"{sentence}; {'significantly different' if gap.significant else 'no significant difference'}", *each]
