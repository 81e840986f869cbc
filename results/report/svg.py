"""Converts Altair charts to SVG for a web page.

Each mark of a trial keeps its label as `aria-label` and gets the attribute `data-trial`, the number of the trial, by
which the script of the report finds the marks.
"""

import html
import itertools
import re
from collections.abc import Mapping
from typing import Any

import altair as alt

from huetune.data_tools.common.terminal import printable
from huetune.results.report.chart_style import COLORS

_chart_numbers = itertools.count()


def to_svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as SVG in the colors of `results.report.chart_style.COLORS`.

    The ids in it differ from those of every other chart of the process, so that several charts fit into one page. A
    mark whose row has a `label` and a `trial` gets the trial as the attribute `data-trial`.
    """
    import vl_convert

    styled = chart.configure(
        background="transparent",
        # The browser's font may be wider than the font with which the labels were measured.
        padding={"left": 24, "right": 8, "top": 4, "bottom": 4},
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=COLORS["muted"],
            titleColor=COLORS["text"],
            gridColor=COLORS["grid"],
            domainColor=COLORS["muted"],
            tickColor=COLORS["muted"],
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=180,
        ),
        legend=alt.LegendConfig(
            labelColor=COLORS["text"],
            labelFontSize=12,
            labelLimit=240,
            columnPadding=28,
            title=None,
            orient="top",
            symbolOpacity=1,
        ),
    )
    spec = _escape_control_characters(styled.to_dict(validate=False))
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=alt.VEGALITE_VERSION.rpartition(".")[0])
    # Vega does not write attributes of our own. A mark is recognized by its whole label, which is unique to its trial.
    rows = itertools.chain.from_iterable(spec.get("datasets", {}).values())
    trials = {row["label"]: row["trial"] for row in rows if "label" in row}
    drawn = re.sub(r'aria-label="([^"]*)"', lambda label: _with_trial(label, trials), drawn)
    # Ids are shared by the whole page: without a prefix a chart would be clipped by the path of another chart.
    prefix = f"c{next(_chart_numbers)}-"
    return re.sub(r'(id="|url\(#)(?=(?:clip|gradient)[0-9_]+)', rf"\g<1>{prefix}", _without_invisible_parts(drawn))


def _escape_control_characters(node: Any) -> Any:
    """Return a specification without control characters: they make vl_convert abort the process."""
    if isinstance(node, str):
        return printable(node, "\n")
    if isinstance(node, dict):
        return {_escape_control_characters(name): _escape_control_characters(value) for name, value in node.items()}
    return [_escape_control_characters(value) for value in node] if isinstance(node, list) else node


def _without_invisible_parts(drawn: str) -> str:
    """Remove what cannot be seen from an SVG: most of its bytes, if it has a line for each of thousands of trials.

    Vega wraps each line in a group of its own, with an empty background and foreground and a clip path of its own.
    """
    drawn = re.sub(r'<path class="(?:back|fore)ground" aria-hidden="true" d="[^"]*"(?: display="none")?/>', "", drawn)
    first_of_shape: dict[str, str] = {}
    shared_ids: dict[str, str] = {}

    def share(clip: re.Match[str]) -> str:
        shared_ids[clip[1]] = first_of_shape.setdefault(clip[2], clip[1])
        return clip[0] if shared_ids[clip[1]] == clip[1] else ""

    drawn = re.sub(r'<clipPath id="(clip[0-9_]+)">(.*?)</clipPath>', share, drawn)
    drawn = re.sub(r"(?<=url\(#)clip[0-9_]+", lambda clip: shared_ids.get(clip[0], clip[0]), drawn)
    group = '<g transform="translate(0,0)"><g>'
    for lines in set(re.findall(rf"{re.escape(group)}(<g class=\"mark-line [^>]*>)", drawn)):
        drawn = drawn.replace(f"</g></g></g>{group}{lines}", "")
    # The enclosing group has this attribute for all of its marks.
    drawn = re.sub(' aria-roledescription="(?:line mark|point)"', "", drawn)
    # A tenth of a pixel is finer than can be seen.
    return re.sub(r'(?<= d=")[ML0-9.,-]+(?=")|(?<=translate\()[0-9.,-]+', _rounded, drawn)


def _rounded(numbers: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), numbers[0])


def _with_trial(label: re.Match[str], trials: Mapping[str, int]) -> str:
    """Return the `aria-label` of a mark, followed by `data-trial` if the mark is that of a trial."""
    trial = trials.get(html.unescape(label[1]))
    return label[0] if trial is None else f'{label[0]} data-trial="{trial}"'
