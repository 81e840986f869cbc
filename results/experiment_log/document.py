"""The log: of each model what it is, what changed, how it trained, what it makes of photos, and a verdict.

It is the document that huetune grew from, now kept by itself: Markdown, the newest model first, pictures beside it.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.photos.color import PATCHES_PER_SIDE, gray_to_luma, paint, upsample_chroma
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.storage.output_files import PHOTOS_FOLDER, OutputFolder
from huetune.model.checkpoint import load
from huetune.model.diagram import PICTURES, draw, missing_graphviz
from huetune.model.metrics import METRICS, scores
from huetune.model.network import build
from huetune.model.weights import parameter_counts
from huetune.results.evaluation.final_check import REFERENCES, FinalCheck
from huetune.results.experiment_log.entry import Entry, changed, newest_first
from huetune.results.experiment_log.messages import Language, escaped, shown
from huetune.results.experiment_log.verdict import figure, link, verdict

SHOWN = 4
"""Test photos that are shown, evenly from all."""
SAMPLES, SAMPLES_SHOWN = 5, 3
"""Colorizations a photo: measured, as by an evaluation, and shown."""
IN_PICTURES = ("activation", "dropout", "dropout_of")
"""Settings that a picture of the same layers says otherwise."""
TALE = ("activation", "skip", "mse_weight")
"""The settings that say what the first model is, which has none before it."""


@dataclass(frozen=True)
class Tested:
    """Photos that no model of the log has learned from.

    Attributes:
        photos: n of them.
        truth: uint8 [n, 112, 112, 3], their colors.
    """

    photos: PhotoSet
    truth: NDArray[np.uint8]


def write(
    entries: Sequence[tuple[Entry, Tested | None]],
    out: Path,
    language: str = "en",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Path:
    """Write the log, and pictures of structures and test photos beside it.

    Args:
        entries: models, each with the photos that test it or None.
        out: folder, made here. An earlier log there is replaced when this one is done; other files stay, and where one
            has a name of these, the new one gets a number.
        language: en or ko.
        progress: wraps the models, to show how far it is.

    Returns:
        The Markdown file, put in place last: where it is, its pictures are.

    Raises:
        CheckpointError: a model cannot be loaded.
    """
    file = "log.md" if language == "en" else f"log.{language}.md"
    # Each language is a document of its own: one does not take away the other's pictures.
    with OutputFolder(out, file) as output:
        log = _Log([entry for entry, _ in entries], output, language)
        tested = {entry.key: photos for entry, photos in entries}
        # The oldest first: what a newer one says of it must be known.
        written = [log.entry(entry, tested[entry.key]) for entry in progress(log.entries[::-1])]
        return out / output.add(file, "\n".join(written[::-1]).encode(errors="backslashreplace"))


class _Log:
    """What the entries' texts have in common: the language, the folder, and what was written of older ones."""

    def __init__(self, entries: Sequence[Entry], output: OutputFolder, language: str):
        self.entries = newest_first(entries)
        self._output, self._language = output, Language(language)
        self._say = self._language.say
        self._figures: dict[str, dict[str, float]] = {}
        self._drawn: dict[Any, Entry] = {}

    def entry(self, entry: Entry, tested: Tested | None) -> str:
        """Return the text of an entry, its pictures written."""
        other = entry.compared_with(self.entries)
        sections = [
            f'<a id="{entry.key}"></a>\n',
            self._title(entry, other),
            self._what(entry),
            self._changes(entry, other) if other else "",
            self._training(entry),
            self._structure(entry),
            self._results(entry, other, tested),
        ]
        return "\n".join(section for section in sections if section)

    def _title(self, entry: Entry, other: Entry | None) -> str:
        names = changed(entry, other) if other else TALE
        what = self._language.joined([self._language.setting(name, entry.settings[name]) for name in names])
        what = what or self._language.setting("seed", entry.seed)
        name = escaped(entry.name[0].upper() + entry.name[1:])
        return f"{self._say('title', name=name, what=what, when=_time(entry.begun))}\n"

    def _what(self, entry: Entry) -> str:
        source = escaped(entry.source)
        counts = {part: entry.photos.get(part, 0) for part in ("training", "validation", "test")}
        done, asked = len(entry.epochs), entry.target
        epochs = self._say("epochs", done=done) if entry.whole else self._say("epochs_unknown", target=asked)
        if entry.state != "complete":
            state = self._say(entry.state, error=escaped(entry.error or ""))
            epochs = self._say("epochs_of", done=done, target=asked, state=state)
        settings = ", ".join(f"{name}={shown(value)}" for name, value in {**entry.settings, "seed": entry.seed}.items())
        kept = self._say("kept", **counts) if counts["test"] else ""
        return _list(
            self._say("first" if entry.first else "photos", source=source, kept=kept, **counts),
            epochs,
            self._say("weight", value=shown(entry.config.mse_weight)),
            self._say("settings", values=f"`{settings}`"),
        )

    def _changes(self, entry: Entry, other: Entry) -> str:
        phrases = []
        for name in changed(entry, other):
            old, new = other.settings[name], entry.settings[name]
            word = "changed_to" if not isinstance(new, bool) else "added" if new else "removed"
            phrases.append(
                self._say(word, setting=self._language.names[name], old=f"**{shown(old)}**", new=f"**{shown(new)}**")
            )
        changes = self._language.joined(phrases) or self._say("nothing")
        title = self._say("changes", other=escaped(other.name))
        return f"{title}\n{self._say('changed', other=link(other), when=_time(other.begun), changes=changes)}\n"

    def _training(self, entry: Entry) -> str:
        loss = entry.epochs[-1]["train_loss"]
        other = entry.of_equal_weight(self.entries)
        word, gaps = "loss" if not entry.earlier(self.entries) else "loss_alone", {}
        if other:
            before = other.epochs[-1]["train_loss"]
            word = "loss_lower" if loss < before else "loss_higher"
            percent = f"{abs(loss / before - 1) * 100:.1f}{self._say('percent')}"
            gaps = {"percent": percent, "other": link(other)}
        best = {"epoch": entry.best["epoch"], "score": figure(entry.score), "skill": f"{entry.best['skill']:.3f}"}
        final = [self._say(word, loss=f"{loss:.4f}", **gaps)] if entry.whole else []
        lines = _list(*final, self._say("best", objective=entry.objective, **best))
        return f"{self._say('training')}\n{lines}\n```\n{''.join(_epoch(entry, line) for line in entry.epochs)}```\n"

    def _structure(self, entry: Entry) -> str:
        drawn = self._drawn.setdefault(entry.layers, entry)
        counts = zip(PICTURES, parameter_counts(entry.config).values(), strict=True)
        text = f"{self._say('structure')}\n"
        text += _list(*(self._say(f"{part}_count", count=f"{count:,}") for part, count in counts))
        if drawn is not entry:
            differs = [name for name in changed(entry, drawn) if name in IN_PICTURES]
            but = f" ({', '.join(self._language.setting(name, entry.settings[name]) for name in differs)})"
            return f"{text}\n{self._say('same', other=link(drawn), but=but if differs else '')}\n"
        if missing_graphviz():
            return f"{text}\n{self._say('undrawn')}\n"
        drawings = draw(build(entry.config)).items()
        files = {name: self._output.add(f"{entry.key}/{name}", content) for name, content in drawings}
        for part in PICTURES:
            text += f"\n**{self._say(part)}**\n\n[![{part}]({files[f'{part}.png']})]({files[f'{part}.svg']})\n"
        return text

    def _results(self, entry: Entry, other: Entry | None, tested: Tested | None) -> str:
        text = f"{self._say('results')}\n"
        if tested and len(tested.photos):
            settings, colorizer = load(entry.checkpoint)
            drawn = colorizer.draw(tested.photos.gray, SAMPLES, seed=0)
            mean_chroma = np.array(settings.mean_chroma, np.float32)
            self._figures[entry.key] = scores(drawn, tested.photos.chroma, mean_chroma)
            text += f"{self._photos(entry, tested, drawn)}\n"
            measured = self._language.metrics(self._figures[entry.key])
            lines = [self._say("figures", count=len(tested.photos), metrics=measured)]
            if other and other.key in self._figures:
                measured = self._language.metrics(self._figures[other.key])
                lines.append(self._say("figures_beside", other=link(other), metrics=measured))
            text += f"{_list(*lines)}\n"
        if entry.check:
            text += f"{_list(self._final_check(entry.check))}\n"
        skill = self._figures.get(entry.key, {}).get("skill")
        return f"{text}{verdict(entry, other, self._language, skill)}\n"

    def _final_check(self, check: FinalCheck) -> str:
        metrics = []
        for name in dict.fromkeys((check.objective, "delta_e")):
            estimate = check.metrics[name]
            value = figure(estimate.value)
            if estimate.low is not None and estimate.high is not None:
                low, high = figure(estimate.low), figure(estimate.high)
                value = self._say("interval", value=value, low=low, high=high, unit="")
            others = {reference: figure(check.references[reference][name]) for reference in REFERENCES}
            metrics.append(self._say("final_metric", name=name, value=value, **others))
        word = "final_check" if len(check.checkpoints) > 1 else "final_check_once"
        return self._say(word, count=check.count, metrics=", ".join(metrics), trainings=len(check.checkpoints))

    def _photos(self, entry: Entry, tested: Tested, drawn: NDArray[np.float32]) -> str:
        """A table of pictures, a row a photo."""
        photos = tested.photos
        heads = [self._say("colorized", number=number + 1) for number in range(SAMPLES_SHOWN)]
        rows = [[self._say("truth"), self._say("gray"), *heads], ["---"] * (2 + SAMPLES_SHOWN)]
        for index in np.unique(np.linspace(0, len(photos) - 1, min(len(photos), SHOWN)).round().astype(int)):
            # By its pixels, since photos of different folders may share a name, and some names are no part of a link.
            mark = photos.digests[index][:12]
            painted = paint(gray_to_luma(photos.gray[index]), upsample_chroma(drawn[index, :SAMPLES_SHOWN]))
            shared = f"{PHOTOS_FOLDER}/{mark}"
            pictures = {f"{shared}-truth.png": tested.truth[index], f"{shared}-gray.png": photos.gray[index]}
            pictures |= {f"{entry.key}/{mark}-{number}.png": sample for number, sample in enumerate(painted, 1)}
            files = [self._output.add(file, _png(pixels)) for file, pixels in pictures.items()]
            name = escaped(Path(photos.names[index]).stem)
            rows.append([f"![{name}]({file})" for file in files])
        shown = len(rows) - 2
        some = f"{self._say('some', shown=shown, count=len(photos))}\n\n" if shown < len(photos) else ""
        return some + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _epoch(entry: Entry, figures: Any) -> str:
    """A line of the training log; the epoch whose weights are kept is marked."""
    boxes = f"{figures['boxes']}/{entry.photos['training'] * PATCHES_PER_SIDE * PATCHES_PER_SIDE} boxes"
    held_out = ", ".join(f"{name} {figures[name]:.4f}" for name in _held_out(entry, figures))
    kept = "  <- kept" if figures["epoch"] == entry.best["epoch"] else ""
    head = f"Epoch {figures['epoch']}/{entry.target} - {boxes} - {figures['seconds']:.1f} s"
    return f"{head} - loss: {figures['train_loss']:.4f} - held out: {held_out}{kept}\n"


def _held_out(entry: Entry, figures: Any) -> list[str]:
    """The names of the metrics of an epoch that a log shows: the objective first."""
    return [name for name in dict.fromkeys((entry.objective, *METRICS.shown)) if name in figures]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _list(*lines: str) -> str:
    return "".join(f"* {line}\n" for line in lines)


def _time(begun: datetime | None) -> str:
    return f"{begun.astimezone():%Y.%m.%d %H:%M}" if begun else "?"
