"""Colors, scales and axes that the charts of a search share."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from huetune.model.metrics import METRICS
from huetune.results.records.value_text import format_value
from huetune.results.tables.trial_table import Row, winner_row

COLORS = {
    "text": "#1c2024",
    "muted": "#5b636c",
    "grid": "#dde1e6",
    "best": "#0b6bcb",
    "complete": "#2f8743",
    "pruned": "#b26a00",
    "failed": "#c4321f",
    "running": "#7a4fc4",
    "baseline": "#8c2f6b",
}
"""Colors of charts on white, by their role. The report replaces each by the CSS variable of that name, which also has a
value for dark mode."""
STATE_OPACITY = {"complete": 0.85, "running": 0.9, "interrupted": 0.9, "pruned": 0.35, "failed": 0.4}
"""Opacity of the curves of each state, 0 to 1, in the order of the legend."""
WIDTH, HEIGHT = 420, 250
"""Size of a chart in pixels."""
MAX_SHOWN_PERCENTILE = 95
"""Percentile of the scores at which an axis ends: one trial that nearly diverged would flatten all others."""
PADDED_SCALE = alt.Scale(zero=False, nice=False, padding=10)
"""Scale with room at both ends, so that no mark is cut in half at the first or the last number."""


def chart_of(rows: Sequence[Row]) -> alt.Chart:
    """Return a chart of rows, without validation of the rows."""
    # Altair takes a dictionary as it is. To validate each row against its schema takes as long as to draw it.
    return alt.Chart({"values": list(rows)})


def sized(chart: alt.LayerChart | alt.FacetChart) -> alt.TopLevelMixin:
    """Return a chart with the default size."""
    return chart.properties(width=WIDTH, height=HEIGHT)


def winner_number(table: Sequence[Row]) -> int | None:
    """Return the number of the winner; None if there is none, or if several objectives leave it open."""
    won = winner_row(list(table))
    return won["trial"] if won and won["front"] is None else None


def is_finite(value: float | None) -> bool:
    """Return whether a score can be drawn."""
    return value is not None and math.isfinite(value)


def trial_label(row: Row, objective: str, parameters: Sequence[str]) -> str:
    """Return the text that a chart shows for a trial: its number, state, score and settings."""
    settings = (f"{name} {format_value(row[name])}" for name in parameters if row[name] is not None)
    states = [state for state in (row["state"], row["note"]) if state]
    return ", ".join([f"trial {row['trial']}", *states, f"{objective} {format_value(row['score'])}", *settings])


def trial_mark(row: Row, objective: str, parameters: Sequence[str]) -> Row:
    """Return the data of a trial's mark; `results.report.svg` recognizes marks by `label` and `trial`."""
    label = trial_label(row, objective, parameters)
    return {"trial": row["trial"], "state": row["state"], "score": row["score"], "label": label}


def states_of(rows: Sequence[Row]) -> list[str]:
    """Return the states that occur, in the order of the legend."""
    present = {row["state"] for row in rows}
    return [state for state in STATE_OPACITY if state in present]


def crowd_opacity(curves: int) -> float:
    """Return the factor, 0 to 1, by which the opacity of curves is reduced if there are many of them."""
    return min(1.0, round(6 / max(1, curves) ** 0.5, 3))


def state_color(rows: Sequence[Row]) -> alt.Color:
    """Return the color encoding by state, with a legend of the states that occur."""
    states = states_of(rows)
    return alt.Color(
        "state:N", scale=named_scale(states, [COLORS["running" if one == "interrupted" else one] for one in states])
    )


def named_scale(names: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    """Return the scale that gives each name the value at the same index."""
    return alt.Scale(domain=list(names), range=list(values))


def score_sign(objective: str) -> int:
    """Return the factor that makes greater scores the better ones: -1 or 1."""
    return -1 if METRICS[objective].minimized else 1


def score_axis(scores: Sequence[float], baseline: float, objective: str) -> alt.Y:
    """Return the y axis of the score. It contains the best score, the baseline and most of the other scores."""
    sign = score_sign(objective)
    signed = [sign * score for score in (*scores, baseline)]
    low, high = min(float(np.percentile(signed, 100 - MAX_SHOWN_PERCENTILE)), sign * baseline), max(signed)
    margin = (high - low) * 0.05 or 0.01
    ends = sorted((sign * (low - margin), sign * (high + margin)))
    return alt.Y("score:Q", title=objective, scale=alt.Scale(domain=ends, nice=False, zero=False))


def baseline_rule(baseline: float, y: alt.Y) -> alt.LayerChart:
    """Return a dashed line with a label at the score of the mean-color baseline."""
    base = chart_of([{"score": baseline, "text": "mean-color baseline"}]).encode(y=y)
    rule = base.mark_rule(color=COLORS["baseline"], strokeDash=[5, 4])
    text = base.mark_text(align="right", dy=-6, fontSize=11, color=COLORS["baseline"])
    return rule + text.encode(x=alt.value(WIDTH), text="text:N")
