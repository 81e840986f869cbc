"""One page that says what a search found: the answer, trials, charts and pictures, in a file that needs nothing else.

Its own script and style are the only ones that the page's Content-Security-Policy lets run, and nothing is fetched.
Whatever a photo, a run or a value is called is only text in it.
"""

import base64
import contextlib
import datetime
import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution

from huetune.data_tools.common.errors import CheckpointError, UserError
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.storage.output_files import require_replaceable, write_file
from huetune.model.config import with_current_names
from huetune.model.metrics import METRICS
from huetune.model.presets import PRESET_SETTINGS
from huetune.model.weights import parameter_counts
from huetune.results.analysis.effects import baseline_line, effect_rows, effects, importance_line, measured_configs
from huetune.results.evaluation.gallery import Picture, evenly, gallery
from huetune.results.export.best_model import trial_checkpoints
from huetune.results.records.trial_record import TrialRecord
from huetune.results.records.value_text import format_value
from huetune.results.report import charts
from huetune.results.report.chart_style import COLORS
from huetune.results.report.parallel_coordinates import parallel_coordinates
from huetune.results.report.summary import Findings, called, without_empty
from huetune.results.report.svg import to_svg
from huetune.results.tables.trial_table import Row, winner_row, with_baseline

MARK = '<meta name="generator" content="huetune">'
"""What tells a report from somebody's file of that name."""
CODE = {"css": "style.css", "js": "script.js"}
"""Files beside this one whose text goes into the page."""
SEED_MODELS = ("model-1", "model-2", "model-3")
"""Presets that the gallery shows beside the finalists."""


@dataclass(frozen=True)
class Photos:
    """Test photos for the gallery.

    Attributes:
        photos: all of them.
        truth: uint8 [n, 112, 112, 3], the colors of those that `results.evaluation.gallery.evenly` takes.
        source: where they are from, in words.
        skipped: how many more there are that a model has seen.
    """

    photos: PhotoSet
    truth: NDArray[np.uint8]
    source: str
    skipped: int = 0


@dataclass(frozen=True)
class _Chart:
    svg: Markup
    title: str
    wide: bool = False


def page(found: Findings, photos: Photos | None, no_photos: str | None = None) -> str:
    """Return the report of a run as HTML.

    Args:
        found: of a search, also one that runs or was left.
        photos: for the gallery, none of which a model of `checkpoints_shown` has seen.
        no_photos: why there are none.
    """
    models = _models(found)
    pictures, why_not = _pictures(found, models, photos)
    content = {
        "name": found.run.name,
        "written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "version": version("huetune"),
        "question": found.question(),
        "answer": found.answer(),
        "notes": found.notes(),
        "facts": found.facts(),
        "objectives": {name: found.manifest.get("directions", {}).get(name) for name in found.objectives},
        "zero": found.zero,
        "finalists": found.finalist_rows(),
        "final_check": found.final_check(),
        "charts": _charts(found),
        "columns": found.columns(),
        "metrics": {
            name: metric.meaning for name, metric in METRICS.items() if name in {*found.objectives, *METRICS.shown}
        },
        "trials": with_baseline(found.table, found.study) if found.table else [],
        **_effects(found),
        "photos": photos,
        "pictures": pictures,
        "no_pictures": no_photos or why_not,
        "structures": _structures(found, models),
        "presets": any(row["preset"] for row in found.table),
        **_drawings(found, models),
        **_reproduction(found),
    }
    return _rendered(content)


def checkpoints_shown(found: Findings) -> dict[str, Path]:
    """Return the checkpoints of the models whose pictures are shown, by what the page calls them."""
    studies = found.study, found.replicates
    return {name: trial_checkpoints(found.run, studies, number)[0] for name, number in _models(found).items()}


def check(out: Path) -> None:
    """Refuse a place where something else than a report is, before the work that a report takes.

    Raises:
        StorageError: there is, or the report there was changed since it was written.
    """
    require_replaceable(out, MARK)


def write(out: Path, html: str) -> None:
    """Write a page, whole or not at all.

    Args:
        out: the file; its folder is made. An older report there is replaced, and nothing else.
        html: the page.

    Raises:
        StorageError: there is something else.
    """
    # A photo may have a name of bytes that are no UTF-8.
    write_file(out, html.encode(errors="backslashreplace"), "report", MARK)


def _charts(found: Findings) -> dict[str, _Chart]:
    objective, parameters = found.objectives[0], found.searched.parameters
    drawn: dict[str, _Chart] = {}
    groups = {f"trial {number}": group for number, group in found.groups().items() if group.scores}
    if groups:
        chart = charts.finalist_intervals(groups, found.zero, objective)
        drawn["finalists"] = _drawn(
            chart, "Finalists: score of each fresh seed, mean and its 95 % interval; dashed: mean-color baseline"
        )
    if any(row["epochs"] for row in found.table):
        chart = charts.score_history(found.table, found.zero, objective, parameters)
        drawn["history"] = _drawn(
            chart, "Every trial in turn; the line is the best complete score so far, the ring is the winner"
        )
        chart = charts.learning_curves(found.study, found.table, found.zero, objective, parameters)
        drawn["curves"] = _drawn(
            chart, "Learning: the best score so far after each epoch; shaded: the winner; faint: pruned or failed"
        )
        chart = parallel_coordinates(found.study, found.table, objective, parameters)
        drawn["parallel"] = _drawn(chart, "A line through the settings and the score of each trial", wide=True)
    return drawn


def _drawn(chart: Any, title: str, wide: bool = False) -> _Chart:
    """A chart whose colors are the page's variables: light, dark and print need no second drawing."""
    names = {value: f"var(--{name})" for name, value in COLORS.items()}
    svg = re.sub("|".join(names), lambda match: names[match[0]], to_svg(chart))
    return _Chart(Markup(svg), title, wide)


def _effects(found: Findings) -> dict[str, Any]:
    configurations = measured_configs(found.study, found.replicates)
    each = effects(configurations, found.searched.parameters, found.objectives[0])
    drawn = [
        _drawn(charts.effect_intervals(list(group), found.objectives[0]), name)
        for name, group in itertools.groupby(each, key=lambda effect: effect.setting)
    ]
    table = [{name: value for name, value in row.items() if name != "curve"} for row in effect_rows(each)]
    return {
        "effects": without_empty(table),
        "effect_charts": drawn,
        "configurations": len(configurations),
        "importance": importance_line(found.study),
        "untrained": baseline_line(configurations),
    }


def _models(found: Findings) -> dict[str, int]:
    """The trials whose pictures and structure are shown, by what they are called."""
    seeds = [row for preset in SEED_MODELS for row in found.table if row["preset"] == preset and row["epochs"]]
    chosen = {row["trial"]: row for row in (*found.candidates(), *seeds)}
    return {called(row): number for number, row in chosen.items()}


def _pictures(
    found: Findings, models: Mapping[str, int], photos: Photos | None
) -> tuple[dict[str, list[Picture]], str | None]:
    """What each model makes of each photo; or why that cannot be shown."""
    if not photos or not models or not len(photos.photos):
        return {}, "there is no model to show" if not models else "there are no test photos"
    try:
        shown_rows = gallery(checkpoints_shown(found), evenly(photos.photos), photos.truth)
    except CheckpointError as error:
        return {}, str(error)
    return {name.removeprefix(f"{photos.source}/"): row for name, row in shown_rows.items()}, None


def _structures(found: Findings, models: Mapping[str, int]) -> list[Row]:
    """What the shown models are made of, and how many parameters that gives."""
    table = []
    for name, number in models.items():
        try:
            config = TrialRecord.of(found.trial(number)).configuration
        except UserError:
            continue  # of another huetune
        table.append(
            {"model": name, **{one: getattr(config, one) for one in PRESET_SETTINGS}, **parameter_counts(config)}
        )
    return table


def _drawings(found: Findings, models: Mapping[str, int]) -> dict[str, Any]:
    """The structure of the first of the shown models as pictures, or why there are none."""
    from huetune.model.diagram import PICTURES, draw, missing_graphviz
    from huetune.model.network import build

    why_not = missing_graphviz()
    for name, number in models.items() if not why_not else ():
        with contextlib.suppress(UserError):
            network = build(TrialRecord.of(found.trial(number)).configuration)
            files = draw(network, ["svg"])
            drawings = {one: _url(files[f"{one}.svg"]) for one in PICTURES}
            return {"drawn": name, "drawings": drawings}
    return {"no_drawings": why_not}


def _url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _reproduction(found: Findings) -> dict[str, Any]:
    manifest = found.manifest
    command = [Path(word).name if place == 0 else word for place, word in enumerate(manifest.get("command", []))]
    photos = manifest.get("photos", {})
    source = photos.get("source")
    if isinstance(source, Mapping):
        source = source["folder"] or f"the built-in garden, {source['scenes'] or 'as many as usual'}"
    seeds = {
        f"trial {number}": [TrialRecord.of(trial).seed for trial in group.trials]
        for number, group in found.groups().items()
    }
    code = manifest.get("code", {})
    recorded = {
        "photos": source,
        "split": ", ".join(f"{photos[part]} {part}" for part in ("training", "validation", "test") if part in photos),
        "fingerprint of the photos": photos.get("fingerprint"),
        "seed of split, searcher and trials": manifest.get("search", {}).get("seed"),
        "fresh seeds": "; ".join(f"{name}: {', '.join(map(str, some))}" for name, some in seeds.items()),
        "code": code.get("commit") and f"{code['commit']}{', with changes' if code.get('dirty') else ''}",
        "hardware": ", ".join(f"{name} {value}" for name, value in manifest.get("hardware", {}).items()),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.get("versions", {}).items()),
    }
    base = with_current_names(manifest.get("base", {}))
    won = winner_row(found.table)
    return {
        "command": shlex.join(command),
        "again": found.run.command("rerun", str(won["trial"])) if won else None,
        "recorded": {name: "not recorded" if value in (None, "") else value for name, value in recorded.items()},
        "space": {name: _domain(domain) for name, domain in manifest.get("space", {}).items()},
        "base": ", ".join(f"{name} {format_value(value)}" for name, value in base.items()),
    }


def _domain(record: Mapping[str, Any]) -> str:
    domain = json_to_distribution(json.dumps(record))
    if isinstance(domain, CategoricalDistribution):
        return ", ".join(map(format_value, domain.choices))
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    step = "" if domain.step in (None, 1) else f", in steps of {format_value(domain.step)}"
    return (
        f"{format_value(domain.low)} to {format_value(domain.high)}{', by its logarithm' if domain.log else ''}{step}"
    )


def _rendered(content: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("huetune.results.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = format_value
    # By more digits than are shown, and no more than could ever tell two trials apart.
    environment.filters["sorted_by"] = "{:.9g}".format
    room = files("huetune.results.report")
    parts = {kind: (room / name).read_text(encoding="utf-8") for kind, name in CODE.items()}
    sums = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in parts.items()}
    code = {kind: Markup(text) for kind, text in parts.items()}
    return environment.get_template("template.html").render(content, mark=Markup(MARK), code=code, sums=sums)
