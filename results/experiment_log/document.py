"""The experiment log as a Markdown document: an entry for each model, newest first, with pictures beside it.

An entry has the settings of the model, the changes from the most similar earlier model, the training log, the
structure, the results on test photos and a verdict, as in the hand-kept experiment log that started the project.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.photos.color import PATCHES_PER_SIDE, gray_to_luma, paint, upsample_chroma
from huetune.data_tools.storage.output_files import PHOTOS_FOLDER, OutputFolder
from huetune.model.checkpoint import load_colorizer
from huetune.model.diagram import PICTURES, draw, missing_graphviz
from huetune.model.metrics import METRICS, scores
from huetune.model.network import build
from huetune.model.weights import parameter_counts
from huetune.results.evaluation.final_check import REFERENCES, FinalCheck
from huetune.results.experiment_log.entry import Entry, PhotosToTest, changed_settings, newest_first
from huetune.results.experiment_log.messages import Language, escape_markdown, format_value
from huetune.results.experiment_log.verdict import format_score, link, verdict

MAX_SHOWN_PHOTOS = 4
"""Test photos in the table of pictures, evenly spread over all test photos."""
SAMPLES_PER_PHOTO = 5
"""Colorizations of each test photo that are measured, as in an evaluation."""
SHOWN_SAMPLES_PER_PHOTO = 3
"""Colorizations of each shown photo in the table of pictures."""
SETTINGS_IN_PICTURES = ("activation", "dropout", "dropout_of")
"""Settings that pictures of the structure show although they do not change the layers' sizes."""
TITLE_SETTINGS = ("activation", "skip", "mse_weight")
"""Settings in the title of an entry that is compared with none; other titles name what changed."""


def write(
    entries: Sequence[tuple[Entry, PhotosToTest | None]],
    out: Path,
    language: str = "en",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Path:
    """Write an experiment log, with pictures of structures and test photos.

    Args:
        entries: models, each with the photos to test it on, or None.
        out: folder, which is created. An earlier log in it is replaced once this one is complete. Other files stay: if
            one has the name of a new file, the new file gets a number in its name.
        language: en or ko.
        progress: wraps the models to show progress.

    Returns:
        The path of the Markdown file, which is written last: once it exists, its pictures exist.

    Raises:
        CheckpointError: a model cannot be loaded.
    """
    file = "log.md" if language == "en" else f"log.{language}.md"
    # The record of files is named after the file: a log in another language keeps its pictures.
    with OutputFolder(out, file) as output:
        document = _Document([entry for entry, _ in entries], output, language)
        photos = {entry.key: photos for entry, photos in entries}
        # Oldest first: a newer entry cites metrics and pictures of older ones.
        texts = [document.entry(entry, photos[entry.key]) for entry in progress(document.entries[::-1])]
        return out / output.add(file, "\n".join(texts[::-1]).encode(errors="backslashreplace"))


class _Document:
    """Writes the entries of a log: keeps the metrics and pictures of older entries, which newer ones cite."""

    def __init__(self, entries: Sequence[Entry], output: OutputFolder, language: str):
        self.entries = newest_first(entries)
        self._output, self._language = output, Language(language)
        self._text = self._language.text
        self._metrics: dict[str, dict[str, float]] = {}
        self._drawn: dict[Any, Entry] = {}

    def entry(self, entry: Entry, test: PhotosToTest | None) -> str:
        """Write the pictures of an entry and return its text."""
        other = entry.most_similar_earlier(self.entries)
        sections = [
            f'<a id="{entry.key}"></a>\n',
            self._title(entry, other),
            self._summary(entry),
            self._changes(entry, other) if other else "",
            self._training(entry),
            self._structure(entry),
            self._results(entry, other, test),
        ]
        return "\n".join(section for section in sections if section)

    def _title(self, entry: Entry, other: Entry | None) -> str:
        names = changed_settings(entry, other) if other else TITLE_SETTINGS
        what = self._language.join([self._language.setting(name, entry.settings[name]) for name in names])
        what = what or self._language.setting("seed", entry.seed)
        name = escape_markdown(entry.name[0].upper() + entry.name[1:])
        return f"{self._text('title', name=name, what=what, when=_time(entry.started))}\n"

    def _summary(self, entry: Entry) -> str:
        source = escape_markdown(entry.source) if entry.source else self._text("garden")
        counts = {part: entry.photos.get(part, 0) for part in ("training", "validation", "test")}
        done, target = len(entry.epochs), entry.target
        epochs = (
            self._text("epochs", done=done) if entry.has_all_epochs else self._text("epochs_unknown", target=target)
        )
        if entry.state != "complete":
            state = self._text(entry.state, error=escape_markdown(entry.error or ""))
            epochs = self._text("epochs_of", done=done, target=target, state=state)
        all_settings = {**entry.settings, "seed": entry.seed}
        settings = ", ".join(f"{name}={format_value(value)}" for name, value in all_settings.items())
        test_photos = self._text("test_photos", **counts) if counts["test"] else ""
        photos = "first_photos" if entry.took_first_photos else "photos"
        return _list(
            self._text(photos, source=source, test_photos=test_photos, **counts),
            epochs,
            self._text("weight", value=format_value(entry.config.mse_weight)),
            self._text("settings", values=f"`{settings}`"),
        )

    def _changes(self, entry: Entry, other: Entry) -> str:
        phrases = []
        for name in changed_settings(entry, other):
            values = {"old": other.settings[name], "new": entry.settings[name]}
            key = "changed_to"
            if isinstance(values["new"], bool):
                key = "added" if values["new"] else "removed"
            bold = {which: f"**{format_value(value)}**" for which, value in values.items()}
            phrases.append(self._text(key, setting=self._language.setting_names[name], **bold))
        changes = self._language.join(phrases) or self._text("nothing")
        title = self._text("changes", other=escape_markdown(other.name))
        return f"{title}\n{self._text('changed', other=link(other), when=_time(other.started), changes=changes)}\n"

    def _training(self, entry: Entry) -> str:
        lines = [self._final_loss(entry)] if entry.has_all_epochs else []
        best = {"epoch": entry.best["epoch"], "score": format_score(entry.score), "skill": f"{entry.best['skill']:.3f}"}
        lines.append(self._text("best", objective=entry.objective, **best))
        epochs = "".join(_epoch_line(entry, metrics) for metrics in entry.epochs)
        return f"{self._text('training')}\n{_list(*lines)}\n```\n{epochs}```\n"

    def _final_loss(self, entry: Entry) -> str:
        loss = entry.epochs[-1]["train_loss"]
        other = entry.latest_with_comparable_loss(self.entries)
        if other is None:
            key = "loss_alone" if entry.comparable_earlier(self.entries) else "loss"
            return self._text(key, loss=f"{loss:.4f}")
        earlier = other.epochs[-1]["train_loss"]
        percent = f"{abs(loss / earlier - 1) * 100:.1f}{self._text('percent')}"
        key = "loss_lower" if loss < earlier else "loss_higher"
        return self._text(key, loss=f"{loss:.4f}", percent=percent, other=link(other))

    def _structure(self, entry: Entry) -> str:
        drawn = self._drawn.setdefault(entry.structure, entry)
        counts = zip(PICTURES, parameter_counts(entry.config).values(), strict=True)
        text = f"{self._text('structure')}\n"
        text += _list(*(self._text(f"{part}_count", count=f"{count:,}") for part, count in counts))
        if drawn is not entry:
            names = [name for name in changed_settings(entry, drawn) if name in SETTINGS_IN_PICTURES]
            settings = self._language.join([self._language.setting(name, entry.settings[name]) for name in names])
            key = "same_but" if names else "same"
            return f"{text}\n{self._text(key, other=link(drawn), settings=settings)}\n"
        if missing_graphviz():
            return f"{text}\n{self._text('no_pictures')}\n"
        drawings = draw(build(entry.config)).items()
        files = {name: self._output.add(f"{entry.key}/{name}", content) for name, content in drawings}
        for part in PICTURES:
            text += f"\n**{self._text(part)}**\n\n[![{part}]({files[f'{part}.png']})]({files[f'{part}.svg']})\n"
        return text

    def _results(self, entry: Entry, other: Entry | None, test: PhotosToTest | None) -> str:
        text = f"{self._text('results')}\n"
        if test and len(test.photos):
            checkpoint, colorizer = load_colorizer(entry.checkpoint)
            drawn = colorizer.draw(test.photos.gray, SAMPLES_PER_PHOTO, seed=0)
            mean_chroma = np.array(checkpoint.mean_chroma, np.float32)
            self._metrics[entry.key] = scores(drawn, test.photos.chroma, mean_chroma)
            text += f"{self._photo_table(entry, test, drawn)}\n"
            measured = self._language.metrics(self._metrics[entry.key])
            lines = [self._text("metrics", count=len(test.photos), metrics=measured)]
            if other and other.key in self._metrics:
                measured = self._language.metrics(self._metrics[other.key])
                lines.append(self._text("metrics_of_other", other=link(other), metrics=measured))
            text += f"{_list(*lines)}\n"
        if entry.final_check:
            text += f"{_list(self._final_check(entry.final_check))}\n"
        skill = self._metrics.get(entry.key, {}).get("skill")
        return f"{text}{verdict(entry, other, self._language, skill)}\n"

    def _final_check(self, check: FinalCheck) -> str:
        metrics = []
        for name in dict.fromkeys((check.objective, "delta_e")):
            estimate = check.metrics[name]
            value = format_score(estimate.value)
            if estimate.low is not None and estimate.high is not None:
                low, high = format_score(estimate.low), format_score(estimate.high)
                value = self._text("interval", value=value, low=low, high=high, unit="")
            references = {reference: format_score(check.references[reference][name]) for reference in REFERENCES}
            metrics.append(self._text("final_metric", name=name, value=value, **references))
        key = "final_check" if len(check.checkpoints) > 1 else "final_check_once"
        return self._text(key, count=check.count, metrics=", ".join(metrics), trainings=len(check.checkpoints))

    def _photo_table(self, entry: Entry, test: PhotosToTest, drawn: NDArray[np.float32]) -> str:
        """Write pictures of test photos and return a table of them, a row for each photo."""
        photos = test.photos
        heads = [self._text("colorized", number=number + 1) for number in range(SHOWN_SAMPLES_PER_PHOTO)]
        rows = [[self._text("truth"), self._text("gray"), *heads], ["---"] * (2 + SHOWN_SAMPLES_PER_PHOTO)]
        evenly = np.linspace(0, len(photos) - 1, min(len(photos), MAX_SHOWN_PHOTOS))
        for index in np.unique(evenly.round().astype(int)):
            # Files are named by the photo's pixels: photos of different folders may share a name, and not every name
            # can be part of a link.
            digest = photos.digests[index][:12]
            painted = paint(gray_to_luma(photos.gray[index]), upsample_chroma(drawn[index, :SHOWN_SAMPLES_PER_PHOTO]))
            shared = f"{PHOTOS_FOLDER}/{digest}"
            pictures = {f"{shared}-truth.png": test.truth[index], f"{shared}-gray.png": photos.gray[index]}
            pictures |= {f"{entry.key}/{digest}-{number}.png": sample for number, sample in enumerate(painted, 1)}
            files = [self._output.add(file, _png(pixels)) for file, pixels in pictures.items()]
            name = escape_markdown(Path(photos.names[index]).stem)
            rows.append([f"![{name}]({file})" for file in files])
        shown = len(rows) - 2
        some = f"{self._text('some', shown=shown, count=len(photos))}\n\n" if shown < len(photos) else ""
        return some + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _epoch_line(entry: Entry, metrics: Mapping[str, Any]) -> str:
    """Return a line of the training log; the epoch whose weights are saved is marked."""
    patches = f"{metrics['boxes']}/{entry.photos['training'] * PATCHES_PER_SIDE**2} patches"
    # The objective comes first; the other metrics follow in their usual order.
    names = [name for name in dict.fromkeys((entry.objective, *METRICS.shown)) if name in metrics]
    validation = ", ".join(f"{name} {metrics[name]:.4f}" for name in names)
    best = "  <- best" if metrics["epoch"] == entry.best["epoch"] else ""
    head = f"Epoch {metrics['epoch']}/{entry.target} - {patches} - {metrics['seconds']:.1f} s"
    return f"{head} - loss: {metrics['train_loss']:.4f} - validation: {validation}{best}\n"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _list(*lines: str) -> str:
    return "".join(f"* {line}\n" for line in lines)


def _time(time: datetime | None) -> str:
    return f"{time.astimezone():%Y.%m.%d %H:%M}" if time else "?"
