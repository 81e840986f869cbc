"""Charts of a search, as Altair's: a notebook shows them, the report draws them as SVG.

Each mark of a trial has a label that says what is known of it. As SVG it also has `data-trial`, the trial's number, by
which the report finds marks.
"""

import html
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import optuna

from huetune.data_tools.common.terminal import plain
from huetune.model.metrics import METRICS, running_best
from huetune.results.analysis.effects import Effect
from huetune.results.analysis.replicates import Replicated
from huetune.results.tables.trial_table import Row, curve, shown, winner

INKS = {
    "ink": "#1c2024",
    "soft": "#5b636c",
    "line": "#dde1e6",
    "best": "#0b6bcb",
    "complete": "#2f8743",
    "pruned": "#b26a00",
    "failed": "#c4321f",
    "running": "#7a4fc4",
    "zero": "#8c2f6b",
}
"""The colors of charts by what they are for, on white. The report makes variables of them, for light and dark."""
FADED = {"complete": 0.85, "running": 0.9, "waiting": 0.9, "pruned": 0.35, "failed": 0.4}
"""Opacity of the curves of each state: what was stopped steps back."""
WIDTH, HEIGHT = 420, 250
WIDEST, AXIS = 900, 135
"""Width of the parallel axes, and least width between two of them."""
MOST = 95
"""Percentile of the scores beyond which a chart ends: one trial that nearly diverged would flatten all others."""


def history(table: Sequence[Row], zero: float, objective: str, parameters: Sequence[str]) -> alt.TopLevelMixin:
    """Return each trial's score in the order of the trials, with the best complete one so far and the zero line.

    A ring is around the winner, which need not have the best score once finalists were confirmed.

    Args:
        table: rows, as `results.tables.trial_table.rows` returns them.
        zero: the score of one color for everything.
        objective: what the score is.
        parameters: that were searched.
    """
    ordered = [row for row in sorted(table, key=lambda row: row["trial"]) if _finite(row["score"])]
    complete = {row["trial"]: row for row in ordered if row["state"] == "complete"}
    best = dict(zip(complete, running_best(objective, complete.values(), lambda row: row["score"]), strict=True))
    steps: list[Row] = []
    for row in ordered:
        improved = row["trial"] in best and best[row["trial"]]["trial"] == row["trial"]
        if improved or (steps and row is ordered[-1]):
            steps.append({"trial": row["trial"], "score": row["score"] if improved else steps[-1]["score"]})
    y = _score_axis([row["score"] for row in ordered], zero, objective)
    x = alt.X("trial:Q", title="trial", axis=alt.Axis(format="d", tickMinStep=1), scale=_ROOMY)
    line = _chart(steps).mark_line(interpolate="step-after", color=INKS["best"], clip=True).encode(x=x, y=y)
    dots = _chart([_mark(row, objective, parameters) for row in ordered]).mark_point(filled=True, size=40, clip=True)
    dots = dots.encode(x=x, y=y, color=_states(ordered), description="label:N")
    best_trial = _winner(table)
    won = [{"trial": row["trial"], "score": row["score"]} for row in ordered if row["trial"] == best_trial]
    ring = _chart(won).mark_point(size=220, strokeWidth=2.5, color=INKS["ink"], clip=True).encode(x=x, y=y)
    # Below the dots, at which the reader points.
    return _sized(_zero_line(zero, y) + line + ring + dots)


def curves(
    study: optuna.Study, table: Sequence[Row], zero: float, objective: str, parameters: Sequence[str]
) -> alt.TopLevelMixin:
    """Return the best score so far of each trial over its epochs; those that were stopped or failed are faint.

    The winner's line has a wide shade.

    Args:
        study: of a search.
        table: its rows.
        zero: the score of one color for everything.
        objective: what the score is.
        parameters: that were searched.
    """
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    points = [
        {**mark, "epoch": epoch, "score": score}
        for mark in (_mark(row, objective, parameters) for row in table)
        for epoch, score in curve(trials[mark["trial"]], objective).items()
        if _finite(score)
    ]
    y = _score_axis([point["score"] for point in points], zero, objective)
    encoding = {
        "x": alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1), scale=_ROOMY),
        "y": y,
        "color": _states(points),
        "description": "label:N",
    }
    epochs = Counter(point["trial"] for point in points)
    layers = [_zero_line(zero, y)]
    best_trial = _winner(table)
    won = [{"epoch": point["epoch"], "score": point["score"]} for point in points if point["trial"] == best_trial]
    shade = _chart(won).mark_line(strokeWidth=7, clip=True, opacity=0.35, color=INKS["ink"])
    layers.append(shade.encode(x=encoding["x"], y=y))
    # What was stopped lies below what was not.
    for state in reversed(_there(points)):
        some = [point for point in points if point["state"] == state]
        single = [point for point in some if epochs[point["trial"]] == 1]
        fading = FADED[state] * _crowd(len(epochs))
        lines = _chart(some).mark_line(strokeWidth=1.5, clip=True, opacity=fading)
        layers.append(lines.encode(**encoding, detail="trial:N"))
        layers.append(_chart(single).mark_point(filled=True, size=25, clip=True, opacity=fading).encode(**encoding))
    return _sized(alt.layer(*layers))


def parallel(study: optuna.Study, table: Sequence[Row], objective: str, parameters: Sequence[str]) -> alt.TopLevelMixin:
    """Return a line through the settings and the score of each trial; winner and best tenth by score stand out.

    Args:
        study: of a search.
        table: its rows.
        objective: what the score is; its better end is on top.
        parameters: that were searched, an axis each.
    """
    scored = [row for row in table if _finite(row["score"])]
    complete = [row["trial"] for row in scored if row["state"] == "complete"]
    # Confirmed finalists come first in the table, whatever their score.
    ranked = sorted(scored, key=lambda row: row["score"], reverse=not METRICS[objective].minimized)
    best = {row["trial"] for row in ranked if row["state"] == "complete"}
    best = set([row["trial"] for row in ranked if row["trial"] in best][: math.ceil(len(complete) / 10)])
    domains = {
        name: domain for trial in study.get_trials(deepcopy=False) for name, domain in trial.distributions.items()
    }
    axes = [_axis([row[name] for row in scored], getattr(domains.get(name), "log", False)) for name in parameters]
    axes.append(_score_heights([row["score"] for row in scored], objective))
    names = [*parameters, objective]

    kinds = "the best tenth by score", "others that are complete", "the rest", "the winner"
    won = _winner(table)
    points = [
        {
            "trial": row["trial"],
            "label": _label(row, objective, parameters),
            "kind": kinds[
                3 if row["trial"] == won else 0 if row["trial"] in best else 1 if row["state"] == "complete" else 2
            ],
            "axis": place,
            "height": heights[index],
        }
        for index, row in enumerate(scored)
        for place, (heights, _) in enumerate(axes)
    ]
    x = alt.X("axis:Q", axis=None, scale=alt.Scale(domain=[-0.1, len(names) - 0.2], nice=False))
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.12, 1.12], nice=False))
    encoding = {
        "x": x,
        "y": y,
        "detail": "trial:N",
        "description": "label:N",
        "color": alt.Color(
            "kind:N", scale=_named(kinds, [INKS["best"], INKS["complete"], INKS["pruned"], INKS["ink"]])
        ),
    }
    crowd = _crowd(len(scored))
    looks = {kinds[2]: (0.35 * crowd, 1), kinds[1]: (0.7 * crowd, 1.2), kinds[0]: (0.9, 2), kinds[3]: (1.0, 3)}
    layers = [
        _chart([point for point in points if point["kind"] == kind])
        .mark_line(opacity=opacity, strokeWidth=width)
        .encode(**encoding)
        for kind, (opacity, width) in looks.items()
    ]
    ends = [{"axis": place, "height": 0, "end": 1} for place in range(len(names))]
    rules = _chart(ends).mark_rule(color=INKS["soft"]).encode(x=x, y=y, y2="end:Q")
    ticks = [
        {"axis": place, "height": height, "text": text}
        for place, (_, labels) in enumerate(axes)
        for height, text in labels.items()
    ]
    texts = _chart(ticks).mark_text(align="left", dx=6, fontSize=11, color=INKS["ink"], limit=AXIS - 15)
    heads = _chart([{"axis": place, "height": 1.1, "text": name} for place, name in enumerate(names)])
    heads = heads.mark_text(align="left", fontSize=12, fontWeight="bold", color=INKS["ink"])
    layers += rules, texts.encode(x=x, y=y, text="text:N"), heads.encode(x=x, y=y, text="text:N")
    return alt.layer(*layers).properties(width=max(WIDEST, AXIS * len(names)), height=HEIGHT)


Axis = tuple[list[float], dict[float, str]]
"""Where on a parallel axis each value stands, 0 to 1, and what is written where."""
ABSENT = -0.08
"""Where a trial stands on the axis of a setting that a condition ruled out."""


def _axis(values: Sequence[Any], log: bool) -> Axis:
    known = {value for value in values if value is not None}
    labels = {ABSENT: "none"} if len(known) < len(set(values)) else {}
    if any(isinstance(value, (bool, str)) for value in known):
        order = sorted(known, key=str)
        places = dict(zip(order, [0.5] if len(order) == 1 else np.linspace(0, 1, len(order)).tolist(), strict=True))
    else:
        on = math.log if log else float
        low, high = (on(end) for end in (min(known, default=1), max(known, default=1)))
        places = {value: (on(value) - low) / (high - low) if high > low else 0.5 for value in known}
        order = sorted(known)
        if len(order) > 5:
            # Values that were tried, those nearest to even steps.
            nearest = (np.argmin([abs(places[value] - step) for value in order]) for step in np.linspace(0, 1, 5))
            order = [order[index] for index in dict.fromkeys(nearest)]
    return [places.get(value, ABSENT) for value in values], labels | {places[value]: shown(value) for value in order}


def _score_heights(scores: Sequence[float], objective: str) -> Axis:
    """The axis of the score: the best one on top, below it all that are worse than most in one place."""
    sign = _sign(objective)
    signed = [sign * score for score in scores]
    high, low = max(signed, default=0), float(np.percentile(signed, 100 - MOST)) if signed else 0
    heights = [max(0.0, (value - low) / (high - low)) if high > low else 0.5 for value in signed]
    ends = {0.0: low, 0.5: (low + high) / 2, 1.0: high} if high > low else {0.5: high} if signed else {}
    labels = {height: shown(float(sign * value)) for height, value in ends.items()}
    if high > low > min(signed):
        labels[0.0] += " or worse"
    return heights, labels


def finalists(groups: Mapping[str, Replicated], zero: float, objective: str) -> alt.TopLevelMixin:
    """Return each finalist's scores from fresh seeds, their mean and its 95 % interval.

    Args:
        groups: of finalists by what they are called, in their order.
        zero: the score of one color for everything.
        objective: what the score is.
    """
    seeds = [{"name": name, "score": score} for name, group in groups.items() for score in group.scores]
    means = [
        {"name": name, "score": estimate.value, "low": estimate.low, "high": estimate.high}
        for name, group in groups.items()
        if (estimate := group.estimate(objective))
    ]
    return _intervals(seeds, means, list(groups), objective, zero)


def effect(found: Sequence[Effect], objective: str) -> alt.TopLevelMixin:
    """Return what one setting does: the score of each range of a number, or the difference to the usual value.

    Args:
        found: the effects of one setting.
        objective: what the score is.
    """
    against = found[0].against
    rows = [
        {"name": one.value, "score": one.estimate.value, "low": one.estimate.low, "high": one.estimate.high}
        for one in found
    ]
    title = objective if against is None else f"difference in {objective} to {against}"
    return _intervals([], rows, [one.value for one in found], title, None if against is None else 0)


def _intervals(
    dots: Sequence[Row], means: Sequence[Row], names: Sequence[str], title: str, line: float | None
) -> alt.TopLevelMixin:
    x = alt.X("score:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format="~g"))
    y = alt.Y("name:N", title=None, sort=names)
    rule = _chart([row for row in means if row["low"] is not None]).mark_rule(strokeWidth=2, color=INKS["best"])
    mean = _chart(means).mark_point(filled=True, size=70, color=INKS["best"], opacity=1).encode(x=x, y=y)
    layers = [rule.encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y), mean]
    layers.append(_chart(dots).mark_tick(color=INKS["ink"], thickness=2, size=12).encode(x=x, y=y))
    if line is not None:
        layers.insert(0, _chart([{"score": line}]).mark_rule(color=INKS["zero"], strokeDash=[5, 4]).encode(x=x))
    return alt.layer(*layers).properties(width=WIDTH - 60, height=alt.Step(30))


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as SVG, in the colors of `INKS`, which no part of another chart in the same page disturbs.

    A mark whose row has a `label` gets the row's `trial` as `data-trial`.
    """
    import vl_convert

    styled = chart.configure(
        background="transparent",
        # The reader's font may be wider than that which the labels were measured in.
        padding={"left": 24, "right": 8, "top": 4, "bottom": 4},
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=INKS["soft"],
            titleColor=INKS["ink"],
            gridColor=INKS["line"],
            domainColor=INKS["soft"],
            tickColor=INKS["soft"],
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=180,
        ),
        legend=alt.LegendConfig(
            labelColor=INKS["ink"],
            labelFontSize=12,
            labelLimit=240,
            columnPadding=28,
            title=None,
            orient="top",
            symbolOpacity=1,
        ),
    )
    spec = _printable(styled.to_dict(validate=False))
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=alt.VEGALITE_VERSION.rpartition(".")[0])
    # Vega writes no attributes of its user's: a mark is told by its whole label, which no two trials share.
    rows = itertools.chain.from_iterable(spec.get("datasets", {}).values())
    trials = {row["label"]: row["trial"] for row in rows if "label" in row}
    drawn = re.sub(r'aria-label="([^"]*)"', lambda label: _with_trial(label, trials), drawn)
    # A page is one document: a chart would be clipped to another one's window of the same name.
    prefix = f"c{next(_drawn)}-"
    return re.sub(r'(id="|url\(#)(?=(?:clip|gradient)[0-9_]+)', rf"\g<1>{prefix}", _slim(drawn))


def _printable(node: Any) -> Any:
    """Return a specification with its control characters spelled out: the library that draws aborts the process."""
    if isinstance(node, str):
        return plain(node, "\n")
    if isinstance(node, dict):
        return {_printable(name): _printable(value) for name, value in node.items()}
    return [_printable(value) for value in node] if isinstance(node, list) else node


def _slim(drawn: str) -> str:
    """A chart as SVG without what cannot be seen: of a line for each of thousands of trials that is most of it.

    Vega draws each line on a sheet of its own, with nothing behind and before it, cut to a window of its own.
    """
    drawn = re.sub(r'<path class="(?:back|fore)ground" aria-hidden="true" d="[^"]*"(?: display="none")?/>', "", drawn)
    first: dict[str, str] = {}
    same: dict[str, str] = {}

    def shared(window: re.Match[str]) -> str:
        same[window[1]] = first.setdefault(window[2], window[1])
        return window[0] if same[window[1]] == window[1] else ""

    drawn = re.sub(r'<clipPath id="(clip[0-9_]+)">(.*?)</clipPath>', shared, drawn)
    drawn = re.sub(r"(?<=url\(#)clip[0-9_]+", lambda window: same.get(window[0], window[0]), drawn)
    sheet = '<g transform="translate(0,0)"><g>'
    for lines in set(re.findall(rf"{re.escape(sheet)}(<g class=\"mark-line [^>]*>)", drawn)):
        drawn = drawn.replace(f"</g></g></g>{sheet}{lines}", "")
    # The list that they are in says so of all its marks.
    drawn = re.sub(' aria-roledescription="(?:line mark|point)"', "", drawn)
    # A tenth of a pixel is more than can be seen.
    return re.sub(r'(?<= d=")[ML0-9.,-]+(?=")|(?<=translate\()[0-9.,-]+', _rounded, drawn)


def _rounded(numbers: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), numbers[0])


def _with_trial(label: re.Match[str], trials: Mapping[str, int]) -> str:
    """Return a mark's label with the number of its trial as an attribute beside it, if it is a trial's."""
    trial = trials.get(html.unescape(label[1]))
    return label[0] if trial is None else f'{label[0]} data-trial="{trial}"'


_drawn = itertools.count()
_ROOMY = alt.Scale(zero=False, nice=False, padding=10)
"""So that no dot is cut in half at the first or the last number."""


def _chart(rows: Sequence[Row]) -> alt.Chart:
    # As a dictionary Altair takes them as they are: to hold each row against its schema takes as long as to draw it.
    return alt.Chart({"values": list(rows)})


def _sized(chart: alt.LayerChart | alt.FacetChart) -> alt.TopLevelMixin:
    return chart.properties(width=WIDTH, height=HEIGHT)


def _winner(table: Sequence[Row]) -> int | None:
    """The number of the one winner, which several objectives leave open."""
    won = winner(list(table))
    return won["trial"] if won and won["front"] is None else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _label(row: Row, objective: str, parameters: Sequence[str]) -> str:
    settings = (f"{name} {shown(row[name])}" for name in parameters if row[name] is not None)
    states = [state for state in (row["state"], row["note"]) if state]
    return ", ".join([f"trial {row['trial']}", *states, f"{objective} {shown(row['score'])}", *settings])


def _mark(row: Row, objective: str, parameters: Sequence[str]) -> Row:
    label = _label(row, objective, parameters)
    return {"trial": row["trial"], "state": row["state"], "score": row["score"], "label": label}


def _there(rows: Sequence[Row]) -> list[str]:
    there = {row["state"] for row in rows}
    return [state for state in FADED if state in there]


def _crowd(trials: int) -> float:
    """How much of its opacity each of many curves keeps, so that what lies below is seen."""
    return min(1.0, round(6 / max(1, trials) ** 0.5, 3))


def _states(rows: Sequence[Row]) -> alt.Color:
    """The color of each state, with a legend of those that are there."""
    states = _there(rows)
    return alt.Color("state:N", scale=_named(states, [INKS["running" if one == "waiting" else one] for one in states]))


def _named(names: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=list(values))


def _sign(objective: str) -> int:
    """What makes more of an objective better."""
    return -1 if METRICS[objective].minimized else 1


def _score_axis(scores: Sequence[float], zero: float, objective: str) -> alt.Y:
    """The axis of the score, from the best and the zero line to most of the others."""
    sign = _sign(objective)
    signed = [sign * score for score in (*scores, zero)]
    low, high = min(float(np.percentile(signed, 100 - MOST)), sign * zero), max(signed)
    room = (high - low) * 0.05 or 0.01
    ends = sorted((sign * (low - room), sign * (high + room)))
    return alt.Y("score:Q", title=objective, scale=alt.Scale(domain=ends, nice=False, zero=False))


def _zero_line(zero: float, y: alt.Y) -> alt.LayerChart:
    base = _chart([{"score": zero, "text": "zero line"}]).encode(y=y)
    rule = base.mark_rule(color=INKS["zero"], strokeDash=[5, 4])
    text = base.mark_text(align="right", dy=-6, fontSize=11, color=INKS["zero"])
    return rule + text.encode(x=alt.value(WIDTH), text="text:N")
