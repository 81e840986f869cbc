"""A run in a notebook: its trials as a frame of pandas, its charts and pictures inline, its best model as one of Keras.

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

SHOWN = 10
"""Trials that a run shows of itself."""


@dataclass(frozen=True)
class Figure:
    """A chart that is shown as SVG: in any notebook, without a network.

    Attributes:
        chart: Altair's, to go on with.
    """

    chart: alt.TopLevelMixin

    def _repr_svg_(self) -> str:
        return to_svg(self.chart)

    def save(self, path: str | Path) -> None:
        """Write it as SVG."""
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")


@dataclass(frozen=True)
class OpenRun:
    """A run to look at. Nothing in it can be changed through this, and it may be running.

    Each method reads the study anew.

    Attributes:
        run: the folder and its study.
    """

    run: Run

    def frame(self) -> pd.DataFrame:
        """Return the trials, the best first: the columns of `huetune trials`, as in `results.tables.trial_table`."""
        return pd.DataFrame(trial_table.run_rows(self.run)).convert_dtypes()

    def epochs(self) -> pd.DataFrame:
        """Return a row for each epoch of each trial: `trial`, `epoch`, and its figures."""
        study, _ = self.run.snapshot()
        return pd.DataFrame(
            {"trial": trial.number, **epoch.record}
            for trial in study.get_trials(deepcopy=False)
            for epoch in TrialRecord.of(trial).epochs
        )

    def effects(self) -> pd.DataFrame:
        """Return what each setting does to the score, with 95 % intervals: the columns of `huetune effects`."""
        studies = self.run.snapshot()
        searched = StudyRecord.of(studies[0])
        found = effects.effects(effects.measured_configs(*studies), searched.parameters, searched.objective)
        return pd.DataFrame(effects.effect_rows(found)).convert_dtypes()

    def history(self) -> Figure:
        """Return each trial's score in the order of the trials, and the best so far."""
        return self._figure(lambda study, *rest: charts.score_history(*rest))

    def curves(self) -> Figure:
        """Return the best score so far of each trial over its epochs."""
        return self._figure(charts.learning_curves)

    def _figure(self, draw: Callable[..., alt.TopLevelMixin]) -> Figure:
        study, replicates = self.run.snapshot()
        searched = StudyRecord.of(study)
        objective = searched.objective
        table = trial_table.rows(study, replicates)
        return Figure(draw(study, table, searched.baseline[objective], objective, searched.parameters))

    def model(self, by: str | None = None) -> "keras.Model":
        """Return the best model, the whole VAE; its layers `encoder` and `decoder` are models, too.

        Args:
            by: of several objectives, the one that decides.

        Raises:
            NoTrialError: no trial is complete.
            CheckpointError: it is damaged.
        """
        _, paths = best_model.best_checkpoints(self.run, self.run.snapshot(), by)
        import_tensorflow()
        from huetune.model.checkpoint import load_network

        return load_network(paths[0])[1].vae

    def colorize(
        self, photo: str | Path | Image.Image, *, samples: int = 1, seed: int = 0, by: str | None = None
    ) -> Image.Image:
        """Return a photo in the best model's colors, at its own size.

        Args:
            photo: a file or a picture, gray or not; its own colors are not looked at.
            samples: colorizations, 1 or more, side by side.
            seed: of the latent vectors.
            by: of several objectives, the one that decides.

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
        """Return the picture of the run's final check: truth, gray and samples of test photos.

        Raises:
            StorageError: there was none.
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
        best = trial_table.with_baseline(table[:SHOWN], study)
        columns = [name for name in best[0] if name != "host" and any(row[name] is not None for row in best)]
        cells = pd.DataFrame([[format_value(row[name]) for name in columns] for row in best], columns=columns)
        title = f"{self.run.name}: the best {SHOWN} of {len(table)} trials" if len(table) > SHOWN else self.run.name
        lines = filter(None, (headline(study, replicates), baseline_line(table)))
        said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        return f"<p>{html.escape(title)}</p>{cells.to_html(index=False, border=0)}{said}"


def open_run(run: str, storage: str | Path = STORAGE) -> OpenRun:
    """Return a run to look at.

    Args:
        run: its name in the storage, the path of its folder, or its URI.
        storage: folder of runs, or s3://bucket/folder.

    Raises:
        StorageError: there is none.
    """
    return OpenRun(find_run(run, local_path(storage)))
