"""Draws the scores, learning curves and intervals of a search as Altair charts.

A notebook shows the charts; `results.report.svg` turns them into SVG for the report.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import altair as alt
import optuna

from huetune.model.metrics import running_best
from huetune.results.analysis.effects import Effect
from huetune.results.analysis.replicates import Replicates
from huetune.results.records.trial_record import TrialRecord
from huetune.results.report.chart_style import (
    COLORS,
    PADDED_SCALE,
    STATE_OPACITY,
    WIDTH,
    baseline_rule,
    chart_of,
    crowd_opacity,
    is_finite,
    score_axis,
    sized,
    state_color,
    states_of,
    trial_mark,
    winner_number,
)
from huetune.results.tables.trial_table import Row


def score_history(
    table: Sequence[Row], baseline: float, objective: str, parameters: Sequence[str]
) -> alt.TopLevelMixin:
    """Return a chart of the trials' scores in the order of the trials, with the best complete score so far.

    A ring marks the winner, which need not have the best score if finalists were confirmed. A dashed line marks the
    baseline.

    Args:
        table: trial table, as `results.tables.trial_table.rows` returns it.
        baseline: score of the mean-color baseline.
        objective: name of the metric that is the score.
        parameters: names of the settings that were searched.
    """
    ordered = [row for row in sorted(table, key=lambda row: row["trial"]) if is_finite(row["score"])]
    complete = {row["trial"]: row for row in ordered if row["state"] == "complete"}
    best = dict(zip(complete, running_best(objective, complete.values(), lambda row: row["score"]), strict=True))
    steps: list[Row] = []
    for row in ordered:
        improved = row["trial"] in best and best[row["trial"]]["trial"] == row["trial"]
        if improved or (steps and row is ordered[-1]):
            steps.append({"trial": row["trial"], "score": row["score"] if improved else steps[-1]["score"]})
    y = score_axis([row["score"] for row in ordered], baseline, objective)
    x = alt.X("trial:Q", title="trial", axis=alt.Axis(format="d", tickMinStep=1), scale=PADDED_SCALE)
    line = chart_of(steps).mark_line(interpolate="step-after", color=COLORS["best"], clip=True).encode(x=x, y=y)
    marks = [trial_mark(row, objective, parameters) for row in ordered]
    dots = chart_of(marks).mark_point(filled=True, size=40, clip=True)
    dots = dots.encode(x=x, y=y, color=state_color(ordered), description="label:N")
    winner = winner_number(table)
    won = [{"trial": row["trial"], "score": row["score"]} for row in ordered if row["trial"] == winner]
    ring = chart_of(won).mark_point(size=220, strokeWidth=2.5, color=COLORS["text"], clip=True).encode(x=x, y=y)
    # The ring is below the dots, so that the pointer reaches the dot.
    return sized(baseline_rule(baseline, y) + line + ring + dots)


def learning_curves(
    study: optuna.Study, table: Sequence[Row], baseline: float, objective: str, parameters: Sequence[str]
) -> alt.TopLevelMixin:
    """Return a chart of each trial's best score so far over its epochs.

    Curves of pruned and failed trials are faint; the winner's has a wide shade.

    Args:
        study: study of the search.
        table: trial table of the study.
        baseline: score of the mean-color baseline.
        objective: name of the metric that is the score.
        parameters: names of the settings that were searched.
    """
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    points = [
        {**mark, "epoch": epoch, "score": score}
        for mark in (trial_mark(row, objective, parameters) for row in table)
        for epoch, score in TrialRecord.of(trials[mark["trial"]]).best_so_far(objective).items()
        if is_finite(score)
    ]
    y = score_axis([point["score"] for point in points], baseline, objective)
    encoding = {
        "x": alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1), scale=PADDED_SCALE),
        "y": y,
        "color": state_color(points),
        "description": "label:N",
    }
    epochs = Counter(point["trial"] for point in points)
    layers = [baseline_rule(baseline, y)]
    winner = winner_number(table)
    won = [{"epoch": point["epoch"], "score": point["score"]} for point in points if point["trial"] == winner]
    shade = chart_of(won).mark_line(strokeWidth=7, clip=True, opacity=0.35, color=COLORS["text"])
    layers.append(shade.encode(x=encoding["x"], y=y))
    # Complete trials are drawn last, above the pruned and failed ones.
    for state in reversed(states_of(points)):
        in_state = [point for point in points if point["state"] == state]
        single = [point for point in in_state if epochs[point["trial"]] == 1]
        opacity = STATE_OPACITY[state] * crowd_opacity(len(epochs))
        lines = chart_of(in_state).mark_line(strokeWidth=1.5, clip=True, opacity=opacity)
        layers.append(lines.encode(**encoding, detail="trial:N"))
        layers.append(chart_of(single).mark_point(filled=True, size=25, clip=True, opacity=opacity).encode(**encoding))
    return sized(alt.layer(*layers))


def finalist_intervals(groups: Mapping[str, Replicates], baseline: float, objective: str) -> alt.TopLevelMixin:
    """Return a chart of each finalist's scores from fresh seeds, their mean, and its 95% interval.

    Args:
        groups: replicates of the finalists by the finalist's display name, in the order in which they are drawn.
        baseline: score of the mean-color baseline.
        objective: name of the metric that is the score.
    """
    seeds = [{"name": name, "score": score} for name, group in groups.items() for score in group.scores]
    means = [
        {"name": name, "score": estimate.value, "low": estimate.low, "high": estimate.high}
        for name, group in groups.items()
        if (estimate := group.estimate(objective))
    ]
    return _intervals(seeds, means, list(groups), objective, baseline)


def effect_intervals(found: Sequence[Effect], objective: str) -> alt.TopLevelMixin:
    """Return a chart of the effect of one setting, with 95% intervals.

    For a number it shows the mean score in each range of its values, otherwise the difference from the most frequent
    value.

    Args:
        found: effects of the same setting.
        objective: name of the metric that is the score.
    """
    against = found[0].reference
    rows = [
        {"name": one.value, "score": one.estimate.value, "low": one.estimate.low, "high": one.estimate.high}
        for one in found
    ]
    title = objective if against is None else f"difference in {objective} to {against}"
    return _intervals([], rows, [one.value for one in found], title, None if against is None else 0)


def _intervals(
    dots: Sequence[Row], means: Sequence[Row], names: Sequence[str], title: str, reference: float | None
) -> alt.TopLevelMixin:
    x = alt.X("score:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format="~g"))
    y = alt.Y("name:N", title=None, sort=names)
    rule = chart_of([row for row in means if row["low"] is not None]).mark_rule(strokeWidth=2, color=COLORS["best"])
    mean = chart_of(means).mark_point(filled=True, size=70, color=COLORS["best"], opacity=1).encode(x=x, y=y)
    layers = [rule.encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y), mean]
    layers.append(chart_of(dots).mark_tick(color=COLORS["text"], thickness=2, size=12).encode(x=x, y=y))
    if reference is not None:
        dashed = chart_of([{"score": reference}]).mark_rule(color=COLORS["baseline"], strokeDash=[5, 4])
        layers.insert(0, dashed.encode(x=x))
    return alt.layer(*layers).properties(width=WIDTH - 60, height=alt.Step(30))
