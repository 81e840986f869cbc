"""Evaluates a model on photos whose colors are known: metrics, colorized pictures, and a contact sheet."""

import csv
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.photos.color import gray_to_luma, paint, upsample_chroma
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.bucket_cache import location_of, pull
from huetune.data_tools.storage.output_files import OutputFolder
from huetune.model.checkpoint import load_colorizer
from huetune.model.metrics import METRICS, Metric, MetricRegistry, scores
from huetune.results.evaluation.colorization import MAX_NAME_BYTES, Progress, unique_stems
from huetune.results.evaluation.contact_sheet import contact_sheet
from huetune.results.evaluation.leakage import leaked_names
from huetune.results.records.run import CONTACT_SHEET

MAX_CONTACT_SHEET_PHOTOS = 60
"""A sheet of more photos shows some of them, evenly spread: a sheet of thousands cannot be opened."""
COLORIZED = "colorized"
"""Folder of the colorized pictures within an evaluation."""
JSON_PSNR_LIMIT_DB = 100.0
"""Recorded for equal photos, whose PSNR is infinite, which JSON cannot hold. 8-bit photos that differ are far below."""


def evaluate(
    checkpoint: Path,
    photos: PhotoSet,
    truth: NDArray[np.uint8],
    out: Path,
    *,
    samples: int = 5,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    skipped: Sequence[str] = (),
    progress: Progress = iter,
) -> dict[str, Any]:
    """Colorize photos whose colors are known, and write metrics and pictures.

    Args:
        checkpoint: folder of a model.
        photos: n test photos.
        truth: uint8 [n, 112, 112, 3], the same photos in color.
        out: folder for `metrics.json`, `metrics.csv`, `colorized/` and `contact-sheet.png`. An earlier evaluation in it
            is replaced once this one is complete. Other files stay; if one of them has such a name, the new file gets a
            number.
        samples: colorizations per photo, 1 or more.
        seed: seed of the latent vectors.
        source: record of the photos' source, stored with the metrics.
        skipped: names of the source's photos that are not measured because the model has seen them, stored as well.
        progress: wraps the iterable of the photos, to show progress.

    Returns:
        The content of `metrics.json`: `all` has the metrics of all photos by name; `photos` is a list with the name
        (`photo`) and the metrics of each photo, which are means over its samples; `references` has the metrics of the
        mean-color baseline and of no color; `leaked` names the measured photos that the model has seen; `shown` is the
        number of photos on the contact sheet; `files` has the name of each file that was written.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    settings, colorizer = load_colorizer(checkpoint)
    drawn = colorizer.draw(photos.gray, samples, seed)
    mean_chroma = np.array(settings.mean_chroma, np.float32)
    rows, pictures = [], []
    names = unique_stems(photos.names)
    shown = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), MAX_CONTACT_SHEET_PHOTOS)).round().astype(int))
    with OutputFolder(out, "evaluate") as output:
        files = {kind: output.reserve_name(kind) for kind in (CONTACT_SHEET, "metrics.csv", "metrics.json")}
        for index, (painted, row) in enumerate(_painted(drawn, photos, truth, mean_chroma, progress)):
            rows.append(row)
            for number, sample in enumerate(painted, 1):
                output.add(f"{COLORIZED}/{names[index]}-{number}.png", _png(Image.fromarray(sample)))
            if index in shown:
                pictures.append([truth[index], np.repeat(photos.gray[index][..., None], 3, axis=-1), *painted])

        report: dict[str, Any] = {
            "model": settings.origin,
            "source": source,
            "samples": samples,
            "seed": seed,
            "leaked": leaked_names(settings, photos),
            "skipped": list(skipped),
            "shown": len(shown),
            "files": files,
            "all": _overall(drawn, photos, mean_chroma, rows),
            "references": reference_metrics(photos, truth, mean_chroma),
            "photos": rows,
        }
        headings = ["original", "grayscale", *(f"sample {number}" for number in range(1, samples + 1))]
        labels = [
            f"{name}   skill {row['skill']:.2f}, delta E {row['delta_e']:.1f}"
            for name, row in zip(names, rows, strict=True)
        ]
        note = f"{len(shown)} of {len(photos)} photos, spread evenly" if len(shown) < len(photos) else ""
        sheet = contact_sheet(pictures, headings, [labels[index] for index in shown], note)
        output.add_as(files[CONTACT_SHEET], _png(sheet))
        output.add_as(files["metrics.csv"], _csv([*rows, {"photo": "all", **report["all"]}]))
        output.add_as(files["metrics.json"], (json.dumps(report, indent=2) + "\n").encode())
    return report


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["photo", *metrics()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # A photo's name may contain bytes that are not UTF-8.
    return file.getvalue().encode(errors="backslashreplace")


def measure_checkpoints(
    checkpoints: Sequence[Path],
    photos: PhotoSet,
    truth: NDArray[np.uint8],
    *,
    samples: int = 5,
    seed: int = 0,
    progress: Progress = iter,
) -> list[dict[str, float]]:
    """Return the metrics of each checkpoint on the same photos, by name, and write nothing.

    Args:
        checkpoints: folders of models.
        photos: n test photos.
        truth: uint8 [n, 112, 112, 3], the same photos in color.
        samples: colorizations per photo, 1 or more.
        seed: seed of the latent vectors.
        progress: wraps the iterable of the checkpoints, to show progress.

    Raises:
        CheckpointError: a model cannot be loaded.
    """
    measured = []
    for checkpoint in progress(checkpoints):
        settings, colorizer = load_colorizer(checkpoint)
        mean_chroma = np.array(settings.mean_chroma, np.float32)
        measured.append(_measured(colorizer.draw(photos.gray, samples, seed), photos, truth, mean_chroma))
    return measured


def reference_metrics(
    photos: PhotoSet, truth: NDArray[np.uint8], mean_chroma: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Return the metrics of the two references that every model is compared with.

    Args:
        photos: n photos.
        truth: uint8 [n, 112, 112, 3], the same photos in color.
        mean_chroma: float32 [2], mean chroma of the training photos.

    Returns:
        The metrics by name, of `baseline`, which gives every patch the mean chroma, and of `gray`, which gives none.
    """
    flat = {"baseline": mean_chroma, "gray": np.zeros(2, np.float32)}
    shape = photos.chroma[:, None].shape
    return {
        name: _measured(np.broadcast_to(chroma, shape), photos, truth, mean_chroma) for name, chroma in flat.items()
    }


def _measured(
    drawn: NDArray[np.float32], photos: PhotoSet, truth: NDArray[np.uint8], mean_chroma: NDArray[np.float32]
) -> dict[str, float]:
    """Return the metrics of chroma maps, float32 [n, samples, 14, 14, 2]."""
    rows = [row for _, row in _painted(drawn, photos, truth, mean_chroma)]
    return _overall(drawn, photos, mean_chroma, rows)


def _painted(
    drawn: NDArray[np.float32],
    photos: PhotoSet,
    truth: NDArray[np.uint8],
    mean_chroma: NDArray[np.float32],
    progress: Progress = iter,
) -> Iterator[tuple[NDArray[np.uint8], dict[str, Any]]]:
    """Yield for each photo its samples, uint8 [samples, 112, 112, 3], and a row of its name and metrics."""
    for index in progress(range(len(photos))):
        painted = paint(gray_to_luma(photos.gray[index]), upsample_chroma(drawn[index]))
        row = scores(drawn[index : index + 1], photos.chroma[index : index + 1], mean_chroma)
        row |= {
            name: float(np.mean([metric.formula(truth[index], sample) for sample in painted]))
            for name, metric in PIXEL_METRICS.items()
        }
        yield painted, {"photo": photos.names[index], **row}


def _overall(
    drawn: NDArray[np.float32], photos: PhotoSet, mean_chroma: NDArray[np.float32], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return the metrics of all photos together; `rows` has the metrics of each photo."""
    overall = scores(drawn, photos.chroma, mean_chroma)
    return overall | {name: float(np.mean([row[name] for row in rows])) for name in PIXEL_METRICS}


def evaluation_folder(evaluations: Path, source: Source) -> Path:
    """Return the folder for the evaluation on a source of photos: named after the source, the same one each time.

    Args:
        evaluations: parent folder of all evaluations of a model.
        source: source of the photos, a folder.
    """
    location = location_of((source.folder or Path(".")).absolute()).partition("?")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", "-".join((location, *source.classes))).strip("-.") or "photos"
    name = os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore")
    for number in itertools.count(1):
        folder = evaluations / (name if number == 1 else f"{name}-{number}")
        metrics = folder / "metrics.json"
        pull(metrics)
        try:
            found = json.loads(metrics.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return folder
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("source") == source.record:
            return folder
    raise AssertionError("numbers have no end")


def _delta_e(truth: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    return float(deltaE_ciede2000(rgb2lab(truth), rgb2lab(painted)).mean())


def _psnr(truth: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    # Importing this takes a second (scipy.stats), and the report does not need it.
    from skimage.metrics import peak_signal_noise_ratio

    return JSON_PSNR_LIMIT_DB if np.array_equal(truth, painted) else float(peak_signal_noise_ratio(truth, painted))


def _ssim(truth: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    from skimage.metrics import structural_similarity  # imported here for the same reason

    return float(structural_similarity(truth, painted, channel_axis=-1))


PIXEL_METRICS = MetricRegistry(
    Metric("delta_e", "minimize", (0.0, math.inf), "mean CIEDE2000, less is better", _delta_e),
    Metric("psnr", "maximize", (-math.inf, math.inf), "peak signal-to-noise ratio in dB, more is better", _psnr),
    Metric("ssim", "maximize", (-1.0, 1.0), "structural similarity, more is better", _ssim),
)
"""Metrics of colorized photos. A formula takes the true and the colorized photo, both uint8 [112, 112, 3]."""


def metrics() -> dict[str, Metric]:
    """Return all metrics of an evaluation by name: those of chroma maps, then those of colorized photos."""
    return {**METRICS, **PIXEL_METRICS}
