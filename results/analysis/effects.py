"""What each setting does to the score, with intervals; and how two models differ."""

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
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.model.presets import PRESETS, with_preset
from huetune.results.analysis.intervals import Estimate, difference, mean, quantile
from huetune.results.analysis.replicates import of_trial, replicated, shown_estimate
from huetune.results.records.baseline import STAYED
from huetune.results.records.run import NUMBER, Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, config_key, find_trial
from huetune.results.tables.trial_table import Row, shown

PAIRS = 3
"""Pairs of trials from which on they are used: fewer say too little."""
IMPORTANCE_TRIALS = 50
"""Complete trials below which no importance is given. It compares the best tenth of them with all, and Optuna asks for
five in that tenth. Of 60 simulated searches each, whose `skip` moves the score by two standard deviations of the noise,
it put `skip` first of three settings in 0 with 4 complete trials, 15 with 12, 29 with 30, 39 with 50, 56 with 100."""
BINS = 5
"""Points of a number's curve at most."""


@dataclass(frozen=True)
class Effect:
    """What a setting does.

    Attributes:
        setting: its name.
        value: this value of it, or a range of values.
        against: another value, which the score is compared with; None where `estimate` is the score itself.
        estimate: of the score, or of the difference of two.
        how: what the estimate rests on.
    """

    setting: str
    value: str
    against: str | None
    estimate: Estimate
    how: str


@dataclass(frozen=True)
class Measured:
    """A configuration: its searched values, and the mean score of its complete trainings.

    Attributes:
        point: its searched values.
        score: the mean over its trainings.
        at_baseline: whether any of these stayed at the mean-color baseline.
    """

    point: Mapping[str, Any]
    score: float
    at_baseline: bool = False


def measured(study: optuna.Study, replicates: optuna.Study | None) -> list[Measured]:
    """Return all configurations of a search that were trained to the end, each once.

    Replicates are no trainings of their own here: what a model of the settings misses of a configuration is the
    same in all of them, and intervals that took them for independent would be too narrow.

    Args:
        study: of a search.
        replicates: study of what was trained again.
    """
    again, parameters = replicated(replicates), StudyRecord.of(study).parameters
    trials: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.values:
            trials.setdefault(TrialRecord.of(trial).key, []).append(trial)
    found = []
    for group in trials.values():
        # Of one that was trained further, how it ended.
        lengths = [TrialRecord.of(trial).planned_epochs for trial in group]
        most = max(lengths)
        full = [trial for trial, length in zip(group, lengths, strict=True) if length == most]
        repeated = of_trial(full[0], again)
        scores = [*(trial.values[0] for trial in full), *(repeated.scores if repeated else ())]
        point = {name: full[0].params.get(name) for name in parameters}
        at_baseline = any(TrialRecord.of(trial).note for trial in (*full, *(repeated.trials if repeated else ())))
        found.append(Measured(point, float(np.mean(scores)), at_baseline))
    return found


def effects(trained: Sequence[Measured], parameters: Sequence[str], objective: str) -> list[Effect]:
    """Return what each searched setting does to the score.

    For words and toggles the difference to the most frequent value: of pairs of configurations that agree in all other
    settings where there are enough, or else of a linear model of all settings (ordinary least squares, with t
    intervals): a plain mean would credit a value with whatever else the sampler tried it with. For numbers the mean
    scores of ranges that hold about as many configurations each.

    Args:
        trained: configurations with their mean scores.
        parameters: that were searched.
        objective: what the scores are, a key of `model.metrics.METRICS`; no interval of a mean leaves its range.
    """
    found = []
    for name in parameters:
        values = [one.point[name] for one in trained if one.point[name] is not None]
        if any(isinstance(value, (bool, str)) for value in values):
            found += _category(trained, name, values, parameters)
        elif values:
            found += _curve(trained, name, METRICS[objective].limits)
    return found


def _category(trained: Sequence[Measured], name: str, values: Sequence[Any], parameters: Sequence[str]) -> list[Effect]:
    ordered = sorted(set(values), key=lambda value: (-values.count(value), str(value)))
    usual = ordered[0]
    model = _adjusted(trained, name, usual, parameters)
    found = []
    for value in ordered[1:]:
        pairs = _pairs(trained, name, value, usual)
        if len(pairs) >= PAIRS:
            found.append(Effect(name, shown(value), shown(usual), mean(pairs), f"{len(pairs)} pairs"))
        elif value in model:
            found.append(
                Effect(name, shown(value), shown(usual), model[value], f"{len(trained)} configurations, adjusted")
            )
    return found


def _pairs(trained: Sequence[Measured], name: str, value: Any, usual: Any) -> list[float]:
    """The differences between configurations that agree in all but one setting, means over their seeds."""
    groups: dict[Any, dict[tuple, list[float]]] = {value: {}, usual: {}}
    for one in trained:
        if one.point[name] in groups:
            rest = tuple((other, one.point[other]) for other in one.point if other != name)
            groups[one.point[name]].setdefault(rest, []).append(one.score)
    return [
        float(np.mean(scores) - np.mean(groups[usual][rest]))
        for rest, scores in groups[value].items()
        if rest in groups[usual]
    ]


def _adjusted(trained: Sequence[Measured], name: str, usual: Any, parameters: Sequence[str]) -> dict[Any, Estimate]:
    """The difference of each value to the usual one, all other settings held still."""
    columns: dict[tuple[str, Any], NDArray[np.float64]] = {("", None): np.ones(len(trained))}
    for other in parameters:
        values = [one.point[other] for one in trained]
        if any(isinstance(value, (bool, str)) for value in values):
            known = [value for value in values if value is not None]
            least = usual if other == name else max(set(known), key=known.count)
            # Where a condition rules the setting out, it has no value of its own.
            for value in set(values) - {least, None}:
                columns[other, value] = np.array([float(one == value) for one in values])
        else:
            # Around its mean where it is searched, so that elsewhere it counts as that.
            column = np.array([math.nan if one is None else float(one) for one in values])
            known = column[~np.isnan(column)]
            # One that never varied says nothing, and takes nothing from the others.
            if known.size and known.min() < known.max():
                columns[other, None] = np.nan_to_num(column - known.mean())
    design = np.stack(list(columns.values()), axis=1)
    scores = np.array([one.score for one in trained])
    freedom = len(trained) - int(np.linalg.matrix_rank(design))
    if freedom < 2 or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}
    weights, *_ = np.linalg.lstsq(design, scores, rcond=None)
    noise = float(np.square(scores - design @ weights).sum()) / freedom
    errors = np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))
    wide = quantile(freedom)
    return {
        value: Estimate(float(weight), float(weight - wide * error), float(weight + wide * error))
        for (other, value), weight, error in zip(columns, weights, errors, strict=True)
        if other == name
    }


def _curve(trained: Sequence[Measured], name: str, within: tuple[float, float]) -> list[Effect]:
    ordered = sorted((one for one in trained if one.point[name] is not None), key=lambda one: one.point[name])
    values = [one.point[name] for one in ordered]
    different = sorted(set(values))
    if len(different) <= BINS:
        places = [different.index(value) for value in values]
    else:
        # Equal shares, save that equal values stay together.
        count = max(1, min(BINS, len(ordered) // 3))
        places = [values.index(value) * count // len(values) for value in values]
    found = []
    for place in dict.fromkeys(places):
        part = [training for training, its in zip(ordered, places, strict=True) if its == place]
        low, high = part[0].point[name], part[-1].point[name]
        words = shown(low) if low == high else f"{shown(low)} to {shown(high)}"
        scores = [one.score for one in part]
        how = f"{len(scores)} configuration{'s' * (len(scores) > 1)}"
        found.append(Effect(name, words, None, mean(scores, within), how))
    return found


def effect_rows(found: Sequence[Effect]) -> list[Row]:
    """Return effects as rows of a table, with a bar for each point of a curve."""
    curves = {
        name: [effect.estimate.value for effect in group if effect.against is None]
        for name, group in itertools.groupby(found, key=lambda effect: effect.setting)
    }
    return [
        {
            "setting": effect.setting,
            "value": effect.value,
            "against": effect.against,
            "score": effect.estimate.value if effect.against is None else None,
            "difference": effect.estimate.value if effect.against is not None else None,
            "low": effect.estimate.low,
            "high": effect.estimate.high,
            "sure": effect.estimate.sure if effect.against is not None and effect.estimate.low is not None else None,
            "curve": _bar(effect.estimate.value, curves[effect.setting]) if effect.against is None else None,
            "rests_on": effect.how,
        }
        for effect in found
    ]


def _bar(value: float, curve: Sequence[float]) -> str:
    low, high = min(curve), max(curve)
    return "▇" * (1 + round(11 * (value - low) / (high - low))) if high > low else "▇"


def importances(study: optuna.Study) -> tuple[dict[str, float], int]:
    """Return Optuna's importance (PED-ANOVA) of each setting, and how many complete trials there are.

    Shares of 1; empty below `IMPORTANCE_TRIALS`.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(complete) < IMPORTANCE_TRIALS:
        return {}, len(complete)
    # Of several objectives the first one; to Optuna less of a target is better.
    sign = 1 if METRICS[StudyRecord.of(study).objective].minimized else -1
    target = (lambda trial: sign * trial.values[0]) if len(study.directions) > 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna.importance.get_param_importances(study, target=target), len(complete)
        except (RuntimeError, ValueError):
            # All scores are one, or no setting is in all trials.
            return {}, len(complete)


def importance_line(study: optuna.Study) -> str:
    """Return Optuna's importance of each setting as a line, or why there is none."""
    found, count = importances(study)
    if count < IMPORTANCE_TRIALS:
        return f"importance: needs at least {IMPORTANCE_TRIALS} complete trials, this search has {count}"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
    return f"importance (Optuna's, from {count} complete trials; pruned ones do not count): {shares or 'not known'}"


def baseline_line(trained: Sequence[Measured]) -> str | None:
    """Return in a line how many configurations have trainings at the mean-color baseline; None where none has."""
    if not (count := sum(one.at_baseline for one in trained)):
        return None
    return (
        f"{count} of {len(trained)} configurations {STAYED} in one or more trainings: effects and importance include "
        "these trainings, which did not work, and so do not compare the models alone"
    )


def config_of(run: Run, name: str, study: optuna.Study | None = None) -> Config:
    """Return the configuration of a preset or, by its number, of a trial of a run.

    A preset is trained as the run's trials are: only what the model is comes from the preset.

    Args:
        run: of a search.
        name: of a preset, or a trial's number.
        study: the run's, where it has been read; None to read it.

    Raises:
        UserError: it is neither.
        NoTrialError: there is no trial of that number.
    """
    if name in PRESETS:
        return with_preset(Config.of(run.manifest["base"]), name)
    if not NUMBER.fullmatch(name):
        raise UserError(f"{name!r}: neither a preset ({', '.join(PRESETS)}) nor the number of a trial")
    if trial := find_trial(study or run.study(), int(name)):
        return TrialRecord.of(trial).configuration
    raise NoTrialError(f"run {run.name!r} has no trial {name}; see them with `{run.command('trials')}`")


def comparison(run: Run, first: str, second: str) -> list[str]:
    """Return how two presets or trials differ, in the log's words, and what that rests on.

    Only replicates count: a trial of the search may have been chosen for its luck.

    Raises:
        NoTrialError: one of them was never trained again.
    """
    study, replicates = run.snapshot()
    objective = StudyRecord.of(study).objective
    again = replicated(replicates)
    scores: list[tuple[float, ...]] = []
    for name in (first, second):
        group = again.get(config_key(asdict(config_of(run, name, study))))
        if not group or not group.scores:
            raise NoTrialError(f"run {run.name!r} has no replicates of {name!r}; train them with --seeds 3")
        scores.append(group.scores)
    gap = difference(*scores)
    base = abs(float(np.mean(scores[1])))
    words = [f"trial {name}" if NUMBER.fullmatch(name) else name for name in (first, second)]
    shown_gap = shown_estimate(gap, 100 / base, " %") if base else shown_estimate(gap)
    sentence = f"{words[0]} against {words[1]}: {objective} {shown_gap}"
    each = [
        f"{name} {shown_estimate(mean(values, METRICS[objective].limits), seeds=len(values))}"
        for name, values in zip(words, scores, strict=True)
    ]
    return [f"{sentence}; {'significantly different' if gap.sure else 'no significant difference'}", *each]
