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
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import optuna
from markupsafe import Markup
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution

from data_tools.errors import CheckpointError, PhotoError, StorageError, UserError
from data_tools.folder import replace
from data_tools.photos import PhotoSet
from model.checkpoint import read
from model.config import Config
from model.score import OBJECTIVES
from results import charts
from results.effects import effect_rows, effects, importances, measured
from results.evaluation import leakage
from results.export import checkpoints
from results.gallery import Picture, gallery
from results.lock import holder
from results.replicates import FINALISTS, Replicated, of_trial, places, replicated, verdict
from results.run import Run
from results.trials import Row, asked, ended, rows, shown, winner, with_zero_line

MARK = '<meta name="generator" content="huetune">'
"""What tells a report from somebody's file of that name."""
SEED_MODELS = ("model-1", "model-2", "model-3")
"""Presets that the gallery shows beside the finalists."""
TOP = 3
"""Complete trials that stand for the finalists where there was no confirmation."""


@dataclass(frozen=True)
class Photos:
    """Test photos for the gallery.

    Attributes:
        photos: n of them.
        truth: uint8 [n, 112, 112, 3], their colours.
        source: where they are from, in words.
        kept: whether they are those that the run kept for the end, which no model of it has seen.
    """

    photos: PhotoSet
    truth: NDArray[np.uint8]
    source: str
    kept: bool = False


@dataclass(frozen=True)
class _Chart:
    svg: Markup
    title: str
    wide: bool = False


@dataclass(frozen=True)
class _Study:
    """All that the page reads of a run, read once: it may be running."""

    run: Run
    manifest: Mapping[str, Any]
    study: optuna.Study
    replicates: optuna.Study | None
    table: list[Row]

    @property
    def objectives(self) -> list[str]:
        attributes = self.study.user_attrs
        return list(attributes.get("objectives", [attributes["objective"]]))

    @property
    def zero(self) -> float:
        return self.study.user_attrs["zero_line"][self.objectives[0]]

    def row(self, number: int) -> Row:
        return next(row for row in self.table if row["trial"] == number)

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def complete(self) -> list[Row]:
        return [row for row in self.table if row["state"] == "complete"]

    def candidates(self) -> list[Row]:
        """The finalists, or what stands for them: the ends of a Pareto front, or the best complete trials."""
        if numbers := self.finalists():
            return [self.row(number) for number in numbers]
        front = [row for row in self.table if row["front"]]
        ends = [_best(front, objective) for objective in self.objectives] if front else []
        return list({row["trial"]: row for row in (*ends, *self.complete()[:TOP])}.values())[: max(TOP, len(ends))]

    def finalists(self) -> list[int]:
        """The numbers of the trials that were trained again as candidates, the winner first."""
        numbers = self.replicates.user_attrs.get(FINALISTS, ()) if self.replicates else ()
        place = places(self.study, self.replicates)
        return sorted(numbers, key=lambda number: place.get(number, len(numbers) + 1))

    def groups(self) -> dict[int, Replicated]:
        """The replicates of each finalist that has any."""
        again = replicated(self.replicates)
        groups = {number: of_trial(self.trial(number), again) for number in self.finalists()}
        return {number: group for number, group in groups.items() if group}


def page(run: Run, photos: Photos | None, no_photos: str | None = None) -> str:
    """Return the report of a run as HTML.

    Args:
        run: of a search, also one that runs or was left.
        photos: for the gallery.
        no_photos: why there are none.

    Raises:
        StorageError: the run has no study.
        PhotoError: a model that is shown has learnt from the photos.
    """
    study, replicates = run.study(), run.replicates()
    found = _Study(run, run.manifest, study, replicates, rows(study, replicates))
    models = _models(found)
    pictures, why_not = _pictures(found, models, photos)
    content = {
        "name": run.name,
        "written": datetime.datetime.now(datetime.UTC).strftime("%F %H:%M UTC"),
        "version": version("huetune"),
        "question": _question(found),
        "answer": _answer(found),
        "notes": _notes(found),
        "facts": _facts(found),
        "objectives": {name: found.manifest.get("directions", {}).get(name) for name in found.objectives},
        "zero": found.zero,
        "finalists": _finalists(found),
        "charts": _charts(found),
        "columns": _columns(found),
        "trials": with_zero_line(found.table, study) if found.table else [],
        **_effects(found),
        "photos": photos,
        "pictures": pictures,
        "no_pictures": no_photos or why_not,
        "structures": _structures(found, models),
        **_drawings(found, models),
        **_reproduction(found),
    }
    return _rendered(content)


def check(out: Path) -> None:
    """Refuse a place where something else than a report is, before the work that a report takes.

    Raises:
        StorageError: there is.
    """
    if out.is_dir() or (out.exists() and MARK not in out.read_text(errors="replace")[:1000]):
        raise StorageError(f"{str(out)!r}: is there and no report of huetune's; choose another --out")


def write(out: Path, html: str) -> None:
    """Write a page, whole or not at all.

    Args:
        out: the file; its folder is made. An older report there is replaced, and nothing else.
        html: the page.

    Raises:
        StorageError: there is something else.
    """
    check(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A photo may have a name of bytes that are no UTF-8.
    replace(out, html.encode(errors="backslashreplace"))


def _best(table: Sequence[Row], objective: str) -> Row:
    return sorted(table, key=lambda row: row[objective], reverse=OBJECTIVES[objective] == "maximize")[0]


def _question(found: _Study) -> str:
    photos = found.manifest.get("photos", {})
    counts = [photos.get(part) for part in ("training", "validation", "test")]
    many = f"{sum(counts)} photos" if None not in counts else "photos"
    return f"Which VAE colorizes these {many} best, and how sure is that?"


def _answer(found: _Study) -> str:
    objective = found.objectives[0]
    front = [row for row in found.table if row["front"]]
    if line := verdict(found.study, found.replicates):
        return f"{line[0].upper()}{line[1:]}."
    if front:
        ends = [(name, _best(front, name)) for name in found.objectives]
        words = ", ".join(f"trial {row['trial']} has the best {name}, {shown(row[name])}" for name, row in ends)
        count = "One trial is" if len(front) == 1 else f"{len(front)} trials are"
        return f"{count} on the Pareto front, and what counts decides between them: {words}; without fresh seeds " + (
            "nobody knows how much of that is luck."
        )
    if won := winner(found.table):
        many = len(found.complete())
        return (
            f"Trial {won['trial']} has the best {objective} of {many} complete trial{'s' * (many > 1)}, "
            f"{shown(won['score'])}, but was trained once: there is no interval before its finalists are trained "
            f"again from fresh seeds (huetune confirm {shlex.quote(found.run.name)})."
        )
    counts = ", ".join(f"{count} {state}" for state, count in _states(found).items())
    return f"Nobody knows yet: no trial is complete ({counts or 'none has begun'})."


def _states(found: _Study) -> dict[str, int]:
    states = [row["state"] for row in found.table]
    return {state: states.count(state) for state in sorted(set(states), key=list(charts.FADED).index)}


def _notes(found: _Study) -> list[str]:
    """What the reader must know first: this is not all, or not as it is today."""
    notes = []
    if found.manifest.get("schema", 0) < 2:
        notes.append(
            "This run is of an older huetune, which did not record how to read its photos again, nor the code and the "
            "hardware: what rests on these is missing here."
        )
    total = asked(found.study)["trials"]
    done = sum(row["state"] not in ("running", "waiting") for row in found.table)
    so_far = f"{done} of {total} trials had ended" if total else f"{done} trials had ended"
    if by := holder(found.run.folder):
        notes.append(f"This run was in the hands of {by} when the page was written; {so_far}.")
    elif total and not ended(found.study):
        name = shlex.quote(found.run.name)
        notes.append(f"This search was left before its end; {so_far}. To go on: huetune resume {name}")
    missing = [number for number in found.finalists() if not found.row(number)["place"]]
    if missing and not places(found.study, found.replicates):
        notes.append("The finalists are not all trained again yet: there is no winner before that.")
    return notes


def _facts(found: _Study) -> list[tuple[str, str]]:
    search, wanted = found.manifest.get("search", {}), asked(found.study)
    counts = ", ".join(f"{count} {state}" for state, count in _states(found).items())
    seconds = found.study.user_attrs.get("seconds")
    return [
        (name, value)
        for name, value in (
            ("trials", f"{len(found.table)}{f' ({counts})' if counts else ''}"),
            ("epochs of a complete trial", str(wanted["epochs"])),
            ("searcher, scheduler", ", ".join(search[part] for part in ("searcher", "scheduler") if part in search)),
            ("started", str(found.manifest.get("started", "")).replace("T", " ")),
            ("time of the search", str(datetime.timedelta(seconds=round(seconds))) if seconds else ""),
            ("no more trials because", ended(found.study) or ""),
        )
        if value
    ]


def _settings(found: _Study, row: Row) -> str:
    names = found.study.user_attrs["parameters"]
    return ", ".join(f"{name} {shown(row[name])}" for name in names if row[name] is not None)


def _finalists(found: _Study) -> list[Row]:
    groups = found.groups()
    table = []
    for number in found.finalists():
        row, group = found.row(number), groups.get(number)
        estimate = group.estimate if group else None
        table.append(
            {
                "place": row["place"],
                "trial": number,
                "preset": row["preset"],
                "settings": _settings(found, row),
                found.objectives[0]: estimate.value if estimate else None,
                "95 % from": estimate.low if estimate else None,
                "to": estimate.high if estimate else None,
                "each seed": ", ".join(shown(score) for score in group.scores) if group else None,
                "diverged": group.failed or None if group else None,
                "in the search": row["score"],
            }
        )
    return _without_empty(table)


def _without_empty(table: list[Row]) -> list[Row]:
    names = [name for name in (table[0] if table else ()) if any(row[name] is not None for row in table)]
    return [{name: row[name] for name in names} for row in table]


def _charts(found: _Study) -> dict[str, _Chart]:
    objective, parameters = found.objectives[0], found.study.user_attrs["parameters"]
    drawn: dict[str, _Chart] = {}
    groups = {f"trial {number}": group for number, group in found.groups().items() if group.scores}
    if groups:
        chart = charts.finalists(groups, found.zero, objective)
        drawn["finalists"] = _drawn(chart, "Finalists: each fresh seed, the mean, its 95 % interval; dashed: zero line")
    if any(row["epochs"] for row in found.table):
        chart = charts.history(found.table, found.zero, objective, parameters)
        drawn["history"] = _drawn(chart, "Every trial in turn; the line is the best complete one so far")
        chart = charts.curves(found.study, found.table, found.zero, objective, parameters)
        drawn["curves"] = _drawn(chart, "Learning: the best score so far after each epoch; faint: pruned or failed")
        chart = charts.parallel(found.study, found.table, objective, parameters)
        drawn["parallel"] = _drawn(chart, "A line through the settings and the score of each trial", wide=True)
    return drawn


def _drawn(chart: Any, title: str, wide: bool = False) -> _Chart:
    """A chart whose colours are the page's variables: light, dark and print need no second drawing."""
    names = {value: f"var(--{name})" for name, value in charts.INKS.items()}
    svg = re.sub("|".join(names), lambda match: names[match[0]], charts.svg(chart))
    return _Chart(Markup(svg), title, wide)


def _columns(found: _Study) -> dict[str, bool]:
    """The columns of the trial table that hold anything, and whether they hold numbers."""
    names = [
        name
        for name in (found.table[0] if found.table else ())
        # The first objective is the score.
        if name != found.objectives[0] and any(row[name] is not None for row in found.table)
    ]
    return {
        name: name == "trial"
        or all(isinstance(row[name], (int, float)) for row in found.table if row[name] is not None)
        for name in names
    }


def _effects(found: _Study) -> dict[str, Any]:
    configurations = measured(found.run)
    each = effects(configurations, found.study.user_attrs["parameters"])
    shares, count = importances(found.study)
    drawn = [
        _drawn(charts.effect(list(group), found.objectives[0]), name)
        for name, group in itertools.groupby(each, key=lambda effect: effect.setting)
    ]
    table = [{name: value for name, value in row.items() if name != "curve"} for row in effect_rows(each)]
    return {
        "effects": _without_empty(table),
        "effect_charts": drawn,
        "configurations": len(configurations),
        "importances": ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
        "importances_from": count,
    }


def _models(found: _Study) -> dict[str, int]:
    """The trials whose pictures and structure are shown, by what they are called."""
    seeds = [row for preset in SEED_MODELS for row in found.table if row["preset"] == preset and row["epochs"]]
    chosen = {row["trial"]: row for row in (*found.candidates(), *seeds)}
    return {_named(row): number for number, row in chosen.items()}


def _named(row: Row) -> str:
    return f"trial {row['trial']}" + (f" ({row['preset']})" if row["preset"] else "")


def _pictures(
    found: _Study, models: Mapping[str, int], photos: Photos | None
) -> tuple[dict[str, list[Picture]], str | None]:
    """What each model makes of each photo; or why that cannot be shown."""
    if not photos or not models or not len(photos.photos):
        return {}, "there is no model to show" if not models else "there are no test photos"
    try:
        folders = {name: checkpoints(found.run, number)[0] for name, number in models.items()}
        if not photos.kept and (seen := leakage(map(read, folders.values()), photos.photos)):
            raise PhotoError(f"{seen}; show it others")
        shown_rows = gallery(folders, photos.photos, photos.truth)
    except CheckpointError as error:
        return {}, str(error)
    return {name.removeprefix(f"{photos.source}/"): row for name, row in shown_rows.items()}, None


def _structures(found: _Study, models: Mapping[str, int]) -> list[Row]:
    """What the shown models are made of, and how many parameters that gives."""
    from model.network import SHOWN, build, parameter_counts

    table, counts = [], {}
    for name, number in models.items():
        try:
            config = Config.of(found.trial(number).user_attrs["config"])
        except (KeyError, UserError):
            continue  # of another huetune
        if config.structure not in counts:
            counts[config.structure] = parameter_counts(build(config))
        table.append({"model": name, **{one: getattr(config, one) for one in SHOWN}, **counts[config.structure]})
    return table


def _drawings(found: _Study, models: Mapping[str, int]) -> dict[str, Any]:
    """The structure of the first of the shown models as pictures, or why there are none."""
    from model.network import build
    from results.structure import PICTURES, draw, missing_graphviz

    why_not = missing_graphviz()
    for name, number in models.items() if not why_not else ():
        with contextlib.suppress(KeyError, UserError), tempfile.TemporaryDirectory() as folder:
            network = build(Config.of(found.trial(number).user_attrs["config"]))
            files = draw(network, Path(folder), ["svg"])
            drawings = {one: _url(file.read_bytes()) for one, file in zip(PICTURES, files, strict=True)}
            return {"drawn": name, "drawings": drawings}
    return {"no_drawings": why_not}


def _url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _reproduction(found: _Study) -> dict[str, Any]:
    manifest = found.manifest
    command = [Path(word).name if place == 0 else word for place, word in enumerate(manifest.get("command", []))]
    photos = manifest.get("photos", {})
    source = photos.get("source")
    if isinstance(source, Mapping):
        source = source["folder"] or f"the built-in garden, {source['scenes'] or 'as many as usual'}"
    seeds = {
        f"trial {number}": [trial.user_attrs.get("seed") for trial in group.trials]
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
    won = winner(found.table)
    return {
        "command": shlex.join(command),
        "again": f"huetune rerun {shlex.quote(found.run.name)} {won['trial']}" if won else None,
        "recorded": {name: "not recorded" if value in (None, "") else value for name, value in recorded.items()},
        "space": {name: _domain(domain) for name, domain in manifest.get("space", {}).items()},
        "base": ", ".join(f"{name} {shown(value)}" for name, value in manifest.get("base", {}).items()),
    }


def _domain(record: Mapping[str, Any]) -> str:
    domain = json_to_distribution(json.dumps(record))
    if isinstance(domain, CategoricalDistribution):
        return ", ".join(map(shown, domain.choices))
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    step = "" if domain.step in (None, 1) else f", in steps of {shown(domain.step)}"
    return f"{shown(domain.low)} to {shown(domain.high)}{', by its logarithm' if domain.log else ''}{step}"


def _rendered(content: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("results", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    parts = {kind: (files("results") / f"report.{kind}").read_text() for kind in ("css", "js")}
    sums = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in parts.items()}
    code = {kind: Markup(text) for kind, text in parts.items()}
    return environment.get_template("report.html").render(content, mark=Markup(MARK), code=code, sums=sums)
