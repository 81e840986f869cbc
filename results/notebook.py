"""Runs in a notebook: trials as a pandas DataFrame, charts and pictures inline, the best model as a Keras model.

import huetune

run = huetune.open_run("roses")
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.photos.dataset import read_photo
from huetune.data_tools.photos.decoding import decode
from huetune.data_tools.storage.bucket_cache import local_path
from huetune.results.analysis import effects
from huetune.results.analysis.winner import headline
from huetune.results.export import best_model
from huetune.results.records.baseline import baseline_line
from huetune.results.records.run import CONTACT_SHEET, EVALUATION, STORAGE, Run, find_run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord
from huetune.results.records.value_text import format_value
from huetune.results.report import charts
from huetune.results.report.svg import to_svg
from huetune.results.tables import trial_table

if TYPE_CHECKING:
    from huetune.data_tools.common.keras_backend import keras

MAX_SHOWN_TRIALS = 10
"""Trials in the HTML table of a run."""


@dataclass(frozen=True)
class Figure:
    """A chart that notebooks show as SVG, without a network.

    Attributes:
        chart: the chart as an Altair object.
    """

    chart: alt.TopLevelMixin

    def _repr_svg_(self) -> str:
        return to_svg(self.chart)

    def save(self, path: str | Path) -> None:
        """Write the chart as an SVG file.

        Args:
            path: path of the file, which is replaced if it exists.
        """
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")


@dataclass(frozen=True)
class OpenRun:
    """A run opened for reading; its search may be running. Each method reads the study again.

    Attributes:
        run: the folder of the run and its study.
    """

    run: Run

    def frame(self) -> pd.DataFrame:
        """Return the trials, best first, with the columns of `huetune trials`."""
        return pd.DataFrame(trial_table.run_rows(self.run)).convert_dtypes()

    def epochs(self) -> pd.DataFrame:
        """Return a row for each epoch of each trial: `trial`, `epoch` and the metrics."""
        study, _ = self.run.snapshot()
        return pd.DataFrame(
            {"trial": trial.number, **epoch.record}
            for trial in study.get_trials(deepcopy=False)
            for epoch in TrialRecord.of(trial).epochs
        )

    def effects(self) -> pd.DataFrame:
        """Return the effect of each setting on the score, with 95% intervals: the columns of `huetune effects`."""
        studies = self.run.snapshot()
        searched = StudyRecord.of(studies[0])
        found = effects.effects(effects.measured_configs(*studies), searched.parameters, searched.objective)
        return pd.DataFrame(effects.effect_rows(found)).convert_dtypes()

    def history(self) -> Figure:
        """Return a chart of each trial's score and the best score so far, in the order of the trials."""
        return self._figure(lambda study, *rest: charts.score_history(*rest))

    def curves(self) -> Figure:
        """Return a chart of each trial's best score so far over its epochs."""
        return self._figure(charts.learning_curves)

    def _figure(self, draw: Callable[..., alt.TopLevelMixin]) -> Figure:
        study, replicates = self.run.snapshot()
        searched = StudyRecord.of(study)
        objective = searched.objective
        table = trial_table.rows(study, replicates)
        return Figure(draw(study, table, searched.baseline[objective], objective, searched.parameters))

    def model(self, by: str | None = None) -> "keras.Model":
        """Return the best model, a VAE whose layers `encoder` and `decoder` are models, too.

        Args:
            by: objective that chooses the best model of a search with several; None for the first.

        Raises:
            NoTrialError: no trial is complete.
            CheckpointError: the checkpoint is damaged.
        """
        _, paths = best_model.best_checkpoints(self.run, self.run.snapshot(), by)
        import_tensorflow()
        from huetune.model.checkpoint import load_network

        return load_network(paths[0])[1].vae

    def colorize(
        self, photo: str | Path | Image.Image, *, samples: int = 1, seed: int = 0, by: str | None = None
    ) -> Image.Image:
        """Colorize a photo with the best model, at its original size.

        Args:
            photo: path of a file, or an image; its colors are ignored.
            samples: number of colorizations, 1 or more, which are put side by side.
            seed: seed of the latent vectors.
            by: objective that chooses the best model of a search with several; None for the first.

        Raises:
            NoTrialError: no trial is complete.
            PhotoError: the file cannot be read.
        """
        pixels = np.asarray(decode(photo).image) if isinstance(photo, Image.Image) else read_photo(Path(photo))
        _, paths = best_model.best_checkpoints(self.run, self.run.snapshot(), by)
        import_tensorflow()
        from huetune.model.checkpoint import load_colorizer
        from huetune.results.evaluation.colorization import colorize_photo

        _, colorizer = load_colorizer(paths[0])
        return Image.fromarray(np.concatenate(colorize_photo(colorizer, pixels, samples, seed), axis=1))

    def contact_sheet(self) -> Image.Image:
        """Return the contact sheet of the final check: original, grayscale and colorizations of test photos.

        Raises:
            StorageError: the run has no contact sheet.
        """
        path = self.run.path(f"{EVALUATION}/{CONTACT_SHEET}")
        try:
            with Image.open(path) as sheet:
                return sheet.copy()
        except FileNotFoundError:
            raise StorageError(
                f"run {self.run.name!r} has no contact sheet; make one with: {self.run.command('resume')}"
            ) from None

    def _repr_html_(self) -> str:
        study, replicates = self.run.snapshot()
        table = trial_table.rows(study, replicates)
        if not table:
            return f"<p>{html.escape(self.run.name)}: no trials yet</p>"
        best = trial_table.with_baseline(table[:MAX_SHOWN_TRIALS], study)
        columns = [name for name in best[0] if name != "host" and any(row[name] is not None for row in best)]
        cells = pd.DataFrame([[format_value(row[name]) for name in columns] for row in best], columns=columns)
        title = (
            f"{self.run.name}: the best {MAX_SHOWN_TRIALS} of {len(table)} trials"
            if len(table) > MAX_SHOWN_TRIALS
            else self.run.name
        )
        lines = filter(None, (headline(study, replicates), baseline_line(table)))
        paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        return f"<p>{html.escape(title)}</p>{cells.to_html(index=False, border=0)}{paragraphs}"


def open_run(run: str, storage: str | Path = STORAGE) -> OpenRun:
    """Open a run for reading.

    Args:
        run: name of the run in the storage, path of its folder, or its s3:// URI.
        storage: folder of runs, or s3://bucket/folder.

    Raises:
        StorageError: the run does not exist.
    """
    return OpenRun(find_run(run, local_path(storage)))
