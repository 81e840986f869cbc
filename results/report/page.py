"""Writes the report: one self-contained HTML page with the winner, the trials, charts and pictures of a search.

The page fetches nothing, and its Content-Security-Policy allows only its own script and style. Names of photos, runs
and values are escaped: they can only become text.
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
from huetune.results.evaluation.gallery import Picture, gallery, select_evenly
from huetune.results.export.best_model import trial_checkpoints
from huetune.results.records.trial_record import TrialRecord
from huetune.results.records.value_text import format_value
from huetune.results.report import charts
from huetune.results.report.chart_style import COLORS
from huetune.results.report.parallel_coordinates import parallel_coordinates
from huetune.results.report.summary import Findings, display_name, without_empty
from huetune.results.report.svg import to_svg
from huetune.results.tables.trial_table import Row, winner_row, with_baseline

GENERATOR_TAG = '<meta name="generator" content="huetune">'
"""The tag by which a report is recognized: only such a file may be replaced by a new report."""
ASSETS = {"css": "style.css", "js": "script.js"}
"""Files in this folder whose text is embedded in the page."""
GALLERY_PRESETS = ("model-1", "model-2", "model-3")
"""Presets whose pictures are shown in addition to those of the finalists."""


@dataclass(frozen=True)
class GalleryPhotos:
    """Test photos for the gallery.

    Attributes:
        photos: all test photos.
        truth: uint8 [n, 112, 112, 3], the photos that `results.evaluation.gallery.select_evenly` selects, in color.
        source: description of where the photos are from.
        skipped: number of further photos, which are not shown because a shown model has seen them.
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


def render_page(found: Findings, photos: GalleryPhotos | None, no_photos: str | None = None) -> str:
    """Return the report of a run as HTML.

    Args:
        found: findings of a search, which may be running or incomplete.
        photos: photos for the gallery; no model of `shown_checkpoints` may have seen them.
        no_photos: reason why there are no photos, a clause without a period.
    """
    models = _models(found)
    pictures, no_pictures = _pictures(found, models, photos)
    content = {
        "name": found.run.name,
        "written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "version": version("huetune"),
        "question": found.question(),
        "answer": found.answer(),
        "notes": found.notes(),
        "facts": found.facts(),
        "objectives": {name: found.manifest.get("directions", {}).get(name) for name in found.objectives},
        "baseline": found.baseline,
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
        "no_pictures": no_photos or no_pictures,
        "structures": _structures(found, models),
        "presets": any(row["preset"] for row in found.table),
        **_drawings(found, models),
        **_reproduction(found),
    }
    return _rendered(content)


def shown_checkpoints(found: Findings) -> dict[str, Path]:
    """Return the checkpoint folders of the models in the gallery, by the name that the page gives them."""
    studies = found.study, found.replicates
    return {name: trial_checkpoints(found.run, studies, number)[0] for name, number in _models(found).items()}


def check_out(out: Path) -> None:
    """Check that a report may be written to a file, before the work that a report takes.

    Raises:
        StorageError: the file exists and is not a report, or the report was changed after it was written.
    """
    require_replaceable(out, GENERATOR_TAG)


def write_page(out: Path, html: str) -> None:
    """Write the page atomically. An older report is replaced; any other file is not.

    Args:
        out: the file. Its folder is created.
        html: the page, as `render_page` returns it.

    Raises:
        StorageError: see `check_out`.
    """
    # The name of a photo may contain bytes that are not UTF-8.
    write_file(out, html.encode(errors="backslashreplace"), "report", GENERATOR_TAG)


def _charts(found: Findings) -> dict[str, _Chart]:
    objective, parameters = found.objectives[0], found.searched.parameters
    drawn: dict[str, _Chart] = {}
    groups = {f"trial {number}": group for number, group in found.groups().items() if group.scores}
    if groups:
        chart = charts.finalist_intervals(groups, found.baseline, objective)
        drawn["finalists"] = _chart(
            chart,
            "Finalists: score of each fresh seed; mean with 95% interval; dashed: mean-color baseline",
        )
    if any(row["epochs"] for row in found.table):
        chart = charts.score_history(found.table, found.baseline, objective, parameters)
        drawn["history"] = _chart(
            chart, "Score of each trial; line: best score of a complete trial so far; ring: winner"
        )
        chart = charts.learning_curves(found.study, found.table, found.baseline, objective, parameters)
        drawn["curves"] = _chart(
            chart, "Learning curves: best score so far after each epoch; shaded: winner; faint: pruned or failed"
        )
        chart = parallel_coordinates(found.study, found.table, objective, parameters)
        drawn["parallel"] = _chart(chart, "Settings and score of each trial, one line per trial", wide=True)
    return drawn


def _chart(chart: Any, title: str, wide: bool = False) -> _Chart:
    """Return a chart whose colors are CSS variables, so that it needs no second version for dark mode or print."""
    names = {value: f"var(--{name})" for name, value in COLORS.items()}
    svg = re.sub("|".join(names), lambda match: names[match[0]], to_svg(chart))
    return _Chart(Markup(svg), title, wide)


def _effects(found: Findings) -> dict[str, Any]:
    configurations = measured_configs(found.study, found.replicates)
    each = effects(configurations, found.searched.parameters, found.objectives[0])
    drawn = [
        _chart(charts.effect_intervals(list(group), found.objectives[0]), name)
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
    """Return the numbers of the trials whose pictures and structure are shown, by the name that the page gives them."""
    presets = [row for preset in GALLERY_PRESETS for row in found.table if row["preset"] == preset and row["epochs"]]
    chosen = {row["trial"]: row for row in (*found.candidates(), *presets)}
    return {display_name(row): number for number, row in chosen.items()}


def _pictures(
    found: Findings, models: Mapping[str, int], photos: GalleryPhotos | None
) -> tuple[dict[str, list[Picture]], str | None]:
    """Return the pictures of each photo by its name; or none, and the reason as a clause."""
    if not photos or not models or not len(photos.photos):
        return {}, "no model has a checkpoint yet" if not models else "there are no test photos"
    try:
        shown_rows = gallery(shown_checkpoints(found), select_evenly(photos.photos), photos.truth)
    except CheckpointError as error:
        return {}, str(error)
    return {name.removeprefix(f"{photos.source}/"): row for name, row in shown_rows.items()}, None


def _structures(found: Findings, models: Mapping[str, int]) -> list[Row]:
    """Return a row for each shown model: its structure settings and parameter counts."""
    table = []
    for name, number in models.items():
        try:
            config = TrialRecord.of(found.trial(number)).configuration
        except UserError:
            continue  # another version of huetune wrote it
        table.append(
            {"model": name, **{one: getattr(config, one) for one in PRESET_SETTINGS}, **parameter_counts(config)}
        )
    return table


def _drawings(found: Findings, models: Mapping[str, int]) -> dict[str, Any]:
    """Return diagrams of the first shown model's structure, or the reason why there are none."""
    from huetune.model.diagram import PICTURES, draw, missing_graphviz
    from huetune.model.network import build

    reason = missing_graphviz()
    for name, number in models.items() if not reason else ():
        with contextlib.suppress(UserError):
            network = build(TrialRecord.of(found.trial(number)).configuration)
            files = draw(network, ["svg"])
            drawings = {one: _url(files[f"{one}.svg"]) for one in PICTURES}
            return {"drawn": name, "drawings": drawings}
    return {"no_drawings": reason}


def _url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _reproduction(found: Findings) -> dict[str, Any]:
    manifest = found.manifest
    command = [Path(word).name if index == 0 else word for index, word in enumerate(manifest.get("command", []))]
    photos = manifest.get("photos", {})
    source = photos.get("source")
    if isinstance(source, Mapping):
        source = source["folder"] or f"synthetic garden, {source['scenes'] or 'default number of'} scenes"
    seeds = {
        f"trial {number}": [TrialRecord.of(trial).seed for trial in group.trials]
        for number, group in found.groups().items()
    }
    code = manifest.get("code", {})
    recorded = {
        "photos": source,
        "split": ", ".join(f"{photos[part]} {part}" for part in ("training", "validation", "test") if part in photos),
        "fingerprint of the photos": photos.get("fingerprint"),
        "seed of the split, the sampler and the trials": manifest.get("search", {}).get("seed"),
        "seeds of the replicates": "; ".join(
            f"{name}: {', '.join(map(str, trial_seeds))}" for name, trial_seeds in seeds.items()
        ),
        "code": code.get("commit") and f"{code['commit']}{', with uncommitted changes' if code.get('dirty') else ''}",
        "hardware": ", ".join(f"{name} {value}" for name, value in manifest.get("hardware", {}).items()),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.get("versions", {}).items()),
    }
    base = with_current_names(manifest.get("base", {}))
    won = winner_row(found.table)
    return {
        "command": shlex.join(command),
        "rerun": found.run.command("rerun", str(won["trial"])) if won else None,
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
    return f"{format_value(domain.low)} to {format_value(domain.high)}{', log scale' if domain.log else ''}{step}"


def _rendered(content: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("huetune.results.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = format_value
    # Sort keys have more digits than are shown: 9 distinguish any two scores.
    environment.filters["sorted_by"] = "{:.9g}".format
    folder = files("huetune.results.report")
    assets = {kind: (folder / name).read_text(encoding="utf-8") for kind, name in ASSETS.items()}
    sums = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in assets.items()}
    code = {kind: Markup(text) for kind, text in assets.items()}
    return environment.get_template("template.html").render(
        content, generator=Markup(GENERATOR_TAG), code=code, sums=sums
    )
