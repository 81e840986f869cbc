"""Draws the settings and scores of a search in parallel coordinates: an axis per setting, a line per trial."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import optuna

from huetune.model.metrics import METRICS
from huetune.results.records.value_text import format_value
from huetune.results.report.chart_style import (
    COLORS,
    HEIGHT,
    MAX_SHOWN_PERCENTILE,
    chart_of,
    crowd_opacity,
    is_finite,
    named_scale,
    score_sign,
    trial_label,
    winner_number,
)
from huetune.results.tables.trial_table import Row

MIN_WIDTH = 900
"""Width of the chart in pixels, unless it has so many axes that it must be wider."""
MIN_AXIS_DISTANCE = 135
"""Distance between two axes in pixels."""
MAX_TICKS = 5
"""Labels of a numeric axis."""
ABSENT_HEIGHT = -0.08
"""Position, below the axis, of trials without the setting, because a condition of the search space excludes it."""
WINNER, BEST_TENTH, COMPLETE, OTHER = "winner", "best tenth by score", "other complete trials", "other trials"
"""Names of the groups of lines in the legend."""

Axis = tuple[list[float], dict[float, str]]
"""The position of each trial on an axis, 0 to 1, and the labels of the axis by their position."""


def parallel_coordinates(
    study: optuna.Study, table: Sequence[Row], objective: str, parameters: Sequence[str]
) -> alt.TopLevelMixin:
    """Return a chart with a line through the settings and the score of each trial.

    The winner and the best tenth of the complete trials stand out.

    Args:
        study: study of the search.
        table: trial table of the study.
        objective: name of the metric that is the score; better scores are higher up on its axis.
        parameters: names of the settings that were searched, each of which gets an axis.
    """
    scored = [row for row in table if is_finite(row["score"])]
    domains = {
        name: domain for trial in study.get_trials(deepcopy=False) for name, domain in trial.distributions.items()
    }
    axes = [
        _setting_axis([row[name] for row in scored], getattr(domains.get(name), "log", False)) for name in parameters
    ]
    axes.append(_score_axis([row["score"] for row in scored], objective))
    names = [*parameters, objective]

    groups = _groups(scored, objective, winner_number(table))
    points = [
        {
            "trial": row["trial"],
            "label": trial_label(row, objective, parameters),
            "group": groups[row["trial"]],
            "axis": axis,
            "height": heights[index],
        }
        for index, row in enumerate(scored)
        for axis, (heights, _) in enumerate(axes)
    ]
    x = alt.X("axis:Q", axis=None, scale=alt.Scale(domain=[-0.1, len(names) - 0.2], nice=False))
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.12, 1.12], nice=False))
    colors = {
        BEST_TENTH: COLORS["best"],
        COMPLETE: COLORS["complete"],
        OTHER: COLORS["pruned"],
        WINNER: COLORS["text"],
    }
    encoding = {
        "x": x,
        "y": y,
        "detail": "trial:N",
        "description": "label:N",
        "color": alt.Color("group:N", scale=named_scale(list(colors), list(colors.values()))),
    }
    crowd = crowd_opacity(len(scored))
    # The most important lines are drawn last, above the others.
    strokes = {OTHER: (0.35 * crowd, 1), COMPLETE: (0.7 * crowd, 1.2), BEST_TENTH: (0.9, 2), WINNER: (1.0, 3)}
    layers = [
        chart_of([point for point in points if point["group"] == group])
        .mark_line(opacity=opacity, strokeWidth=width)
        .encode(**encoding)
        for group, (opacity, width) in strokes.items()
    ]
    ends = [{"axis": axis, "height": 0, "end": 1} for axis in range(len(names))]
    rules = chart_of(ends).mark_rule(color=COLORS["muted"]).encode(x=x, y=y, y2="end:Q")
    ticks = [
        {"axis": axis, "height": height, "text": text}
        for axis, (_, labels) in enumerate(axes)
        for height, text in labels.items()
    ]
    texts = chart_of(ticks).mark_text(
        align="left", dx=6, fontSize=11, color=COLORS["text"], limit=MIN_AXIS_DISTANCE - 15
    )
    heads = chart_of([{"axis": axis, "height": 1.1, "text": name} for axis, name in enumerate(names)])
    heads = heads.mark_text(align="left", fontSize=12, fontWeight="bold", color=COLORS["text"])
    layers += rules, texts.encode(x=x, y=y, text="text:N"), heads.encode(x=x, y=y, text="text:N")
    return alt.layer(*layers).properties(width=max(MIN_WIDTH, MIN_AXIS_DISTANCE * len(names)), height=HEIGHT)


def _groups(scored: Sequence[Row], objective: str, winner: int | None) -> dict[int, str]:
    """Return the group of each trial by its number."""
    complete = [row for row in scored if row["state"] == "complete"]
    # In the table confirmed finalists come first, whatever their score in the search.
    ranked = sorted(complete, key=lambda row: row["score"], reverse=not METRICS[objective].minimized)
    groups = {row["trial"]: OTHER for row in scored}
    groups |= {row["trial"]: COMPLETE for row in complete}
    groups |= {row["trial"]: BEST_TENTH for row in ranked[: math.ceil(len(complete) / 10)]}
    return groups | ({winner: WINNER} if winner in groups else {})


def _setting_axis(values: Sequence[Any], log: bool) -> Axis:
    known = {value for value in values if value is not None}
    labels = {ABSENT_HEIGHT: "none"} if len(known) < len(set(values)) else {}
    if any(isinstance(value, (bool, str)) for value in known):
        order = sorted(known, key=str)
        heights = dict(zip(order, [0.5] if len(order) == 1 else np.linspace(0, 1, len(order)).tolist(), strict=True))
    else:
        scale = math.log if log else float
        low, high = (scale(end) for end in (min(known, default=1), max(known, default=1)))
        heights = {value: (scale(value) - low) / (high - low) if high > low else 0.5 for value in known}
        order = sorted(known)
        if len(order) > MAX_TICKS:
            # The labels are values that were tried, the nearest ones to even steps.
            steps = np.linspace(0, 1, MAX_TICKS)
            nearest = (np.argmin([abs(heights[value] - step) for value in order]) for step in steps)
            order = [order[index] for index in dict.fromkeys(nearest)]
    return [heights.get(value, ABSENT_HEIGHT) for value in values], labels | {
        heights[value]: format_value(value) for value in order
    }


def _score_axis(scores: Sequence[float], objective: str) -> Axis:
    """Return the axis of the score: the best score on top; the worst twentieth of the scores share the lower end."""
    sign = score_sign(objective)
    signed = [sign * score for score in scores]
    high = max(signed, default=0)
    low = float(np.percentile(signed, 100 - MAX_SHOWN_PERCENTILE)) if signed else 0
    heights = [max(0.0, (value - low) / (high - low)) if high > low else 0.5 for value in signed]
    ends = {0.0: low, 0.5: (low + high) / 2, 1.0: high} if high > low else {0.5: high} if signed else {}
    labels = {height: format_value(float(sign * value)) for height, value in ends.items()}
    if high > low > min(signed):
        labels[0.0] += " or worse"
    return heights, labels
