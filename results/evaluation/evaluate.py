"""A model's colors for photos: measured against the truth, and as pictures."""

import csv
import io
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.common.errors import CheckpointError, PhotoError
from huetune.data_tools.photos import near_duplicates
from huetune.data_tools.photos.color import SIDE, gray, luma, luma_of, paint, spread
from huetune.data_tools.photos.color_profile import srgb_chunk
from huetune.data_tools.photos.dataset import PhotoSet, read_photo, resize
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.bucket_cache import place_of, pull
from huetune.data_tools.storage.output_files import Output, write_new
from huetune.model.checkpoint import Checkpoint, load
from huetune.model.metrics import METRICS, Metric, MetricRegistry, scores
from huetune.results.evaluation.contact_sheet import contact_sheet
from huetune.results.records.run import CONTACT_SHEET

if TYPE_CHECKING:
    from huetune.model.colorizer import Colorizer

SHEET = 60
"""Photos on a contact sheet at most, evenly from all: a sheet of thousands cannot be opened."""
LONGEST_NAME = 200
"""Bytes of a photo's name that its pictures keep: file systems take 255, and a number and an ending follow."""
COLORIZED = "colorized"
"""Folder of an evaluation's pictures."""
STRIP = 512
"""Rows painted at once: a photo of 50 megapixels would take gigabytes as vectors."""

Progress = Callable[[Iterable], Iterable]


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
    """Colorize photos whose colors are known, and write figures and pictures.

    Args:
        checkpoint: folder of a model.
        photos: n test photos.
        truth: uint8 [n, 112, 112, 3], the same photos.
        out: folder for `metrics.json`, `metrics.csv`, `colorized/` and `contact-sheet.png`. An earlier evaluation there
            is replaced when this one is done; other files stay, and where one has a name of these, the new one gets a
            number.
        samples: colorizations a photo, 1 or more.
        seed: of the latent vectors.
        source: record of where the photos are from, which is kept with the figures.
        skipped: names of the source's photos that are not measured because the model has seen them, kept likewise.
        progress: wraps the photos, to show how far it is.

    Returns:
        What `metrics.json` holds: `all`, a dictionary of the metrics, and `photos`, a list of them with `photo`; a
        photo's figures are means over its samples. `references` are the metrics of one color for everything and of no
        color, `leaked` the photos that the model has seen, `shown` how many are on the contact sheet, `files` the names
        that the files got.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    settings, colorizer = load(checkpoint)
    drawn = colorizer.draw(photos.gray, samples, seed)
    mean_chroma = np.array(settings.mean_chroma, np.float32)
    rows, pictures = [], []
    names = _file_names(photos.names)
    shown = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), SHEET)).round().astype(int))
    with Output(out, "evaluate") as output:
        files = {kind: output.name(kind) for kind in (CONTACT_SHEET, "metrics.csv", "metrics.json")}
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
            "leaked": leaked(settings, photos),
            "skipped": list(skipped),
            "shown": len(shown),
            "files": files,
            "all": _overall(drawn, photos, mean_chroma, rows),
            "references": references(photos, truth, mean_chroma),
            "photos": rows,
        }
        headings = ["truth", "gray", *(f"sample {number}" for number in range(1, samples + 1))]
        labels = [
            f"{name}   skill {row['skill']:.2f}, delta E {row['delta_e']:.1f}"
            for name, row in zip(names, rows, strict=True)
        ]
        note = f"{len(shown)} of {len(photos)} photos, spread evenly" if len(shown) < len(photos) else ""
        sheet = contact_sheet(pictures, headings, [labels[index] for index in shown], note)
        output.put(files[CONTACT_SHEET], _png(sheet))
        output.put(files["metrics.csv"], _csv([*rows, {"photo": "all", **report["all"]}]))
        output.put(files["metrics.json"], (json.dumps(report, indent=2) + "\n").encode())
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
    # A name may hold bytes that are no UTF-8.
    return file.getvalue().encode(errors="backslashreplace")


def leaked(model: Checkpoint, photos: PhotoSet) -> list[str] | None:
    """Return the names of the photos that trained or ranked a model, or are near copies of one that did.

    None where the model does not say what it has seen: one of an older huetune does not.

    Raises:
        CheckpointError: what it says makes no sense.
    """
    seen = model.photos.get("seen")
    if seen is None:
        return None
    try:
        if seen["kind"] not in near_duplicates.KINDS:
            return None
        marks = [near_duplicates.from_text(seen[part], seen["kind"]) for part in ("training", "validation")]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the model's record of what it has seen is damaged ({error})") from None
    known = near_duplicates.known(photos.marks, np.concatenate(marks))
    return [name for name, found in zip(photos.names, known, strict=True) if found]


def seen(models: Iterable[Checkpoint], photos: PhotoSet) -> NDArray[np.bool_]:
    """Return for each photo whether one of these models has seen it, bool [n], see `leaked`.

    Raises:
        PhotoError: there are photos, and the models have seen all of them.
        CheckpointError: what one says makes no sense.
    """
    names = {name for model in models for name in leaked(model, photos) or ()}
    found = np.array([name in names for name in photos.names], bool)
    if len(found) and found.all():
        raise PhotoError(
            f"all {len(photos)} photos have trained or ranked the model, or are near-duplicates of such photos; "
            "take others"
        )
    return found


def judge(
    checkpoints: Sequence[Path],
    photos: PhotoSet,
    truth: NDArray[np.uint8],
    *,
    samples: int = 5,
    seed: int = 0,
    progress: Progress = iter,
) -> list[dict[str, float]]:
    """Return `metrics` of models on photos, without any picture; the arguments are those of `evaluate`."""
    judged = []
    for checkpoint in progress(checkpoints):
        settings, colorizer = load(checkpoint)
        mean_chroma = np.array(settings.mean_chroma, np.float32)
        judged.append(_measured(colorizer.draw(photos.gray, samples, seed), photos, truth, mean_chroma))
    return judged


def references(
    photos: PhotoSet, truth: NDArray[np.uint8], mean_chroma: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Return `metrics` of what every model is compared with.

    Args:
        photos: n photos.
        truth: uint8 [n, 112, 112, 3], the same photos.
        mean_chroma: float32 [2], of the training photos.

    Returns:
        Those of `baseline`, the mean color of the training photos for everything, and of `gray`, no color.
    """
    flat = {"baseline": mean_chroma, "gray": np.zeros(2, np.float32)}
    shape = photos.chroma[:, None].shape
    return {
        name: _measured(np.broadcast_to(chroma, shape), photos, truth, mean_chroma) for name, chroma in flat.items()
    }


def _measured(
    drawn: NDArray[np.float32], photos: PhotoSet, truth: NDArray[np.uint8], mean_chroma: NDArray[np.float32]
) -> dict[str, float]:
    """The `metrics` of chroma maps, float32 [n, samples, 14, 14, 2]."""
    rows = [row for _, row in _painted(drawn, photos, truth, mean_chroma)]
    return _overall(drawn, photos, mean_chroma, rows)


def _painted(
    drawn: NDArray[np.float32],
    photos: PhotoSet,
    truth: NDArray[np.uint8],
    mean_chroma: NDArray[np.float32],
    progress: Progress = iter,
) -> Iterator[tuple[NDArray[np.uint8], dict[str, Any]]]:
    """Yield for each photo its samples, uint8 [samples, 112, 112, 3], and its name with its `metrics`."""
    for index in progress(range(len(photos))):
        painted = paint(luma_of(photos.gray[index]), spread(drawn[index]))
        figures = scores(drawn[index : index + 1], photos.chroma[index : index + 1], mean_chroma)
        figures |= {
            name: float(np.mean([metric.formula(truth[index], sample) for sample in painted]))
            for name, metric in PIXEL_METRICS.items()
        }
        yield painted, {"photo": photos.names[index], **figures}


def _overall(
    drawn: NDArray[np.float32], photos: PhotoSet, mean_chroma: NDArray[np.float32], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The `metrics` of all photos, of which the rows are those of each."""
    overall = scores(drawn, photos.chroma, mean_chroma)
    return overall | {name: float(np.mean([row[name] for row in rows])) for name in PIXEL_METRICS}


def folder_for(evaluations: Path, source: Source) -> Path:
    """Return the folder of a source's evaluations: named after the source, and the same one each time.

    Args:
        evaluations: folder of all of them.
        source: of the photos, a folder.
    """
    place = place_of((source.folder or Path(".")).absolute()).partition("?")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", "-".join((place, *source.classes))).strip("-.") or "photos"
    name = os.fsencode(name)[:LONGEST_NAME].decode(errors="ignore")
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
    # The report, which has no need of it, would wait for all of scipy.stats.
    from skimage.metrics import peak_signal_noise_ratio

    # Equal photos have an infinite PSNR, which JSON cannot hold: 100 dB is far above what 8 bits can tell apart.
    return 100.0 if np.array_equal(truth, painted) else float(peak_signal_noise_ratio(truth, painted))


def _ssim(truth: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    from skimage.metrics import structural_similarity  # likewise

    return float(structural_similarity(truth, painted, channel_axis=-1))


PIXEL_METRICS = MetricRegistry(
    Metric("delta_e", "minimize", (0.0, math.inf), "mean CIEDE2000, less is better", _delta_e),
    Metric("psnr", "maximize", (-math.inf, math.inf), "peak signal-to-noise ratio in dB, more is better", _psnr),
    Metric("ssim", "maximize", (-1.0, 1.0), "structural similarity, more is better", _ssim),
)
"""The metrics of painted photos; a formula takes the true and the painted one, uint8 [112, 112, 3]."""


def metrics() -> dict[str, Metric]:
    """Return all that an evaluation measures, by name: of chroma maps, then of painted photos."""
    return {**METRICS, **PIXEL_METRICS}


def colorize(
    checkpoint: Path, paths: Sequence[Path], out: Path, *, samples: int = 1, seed: int = 0, progress: Progress = iter
) -> list[Path]:
    """Colorize photos at their own size: the colors are the model's, the luma is the photo's.

    Args:
        checkpoint: folder of a model.
        paths: photos, gray or not; their own colors are not looked at.
        out: folder for the PNG files. No file there is replaced: where a name is taken, the new one gets a number.
        samples: colorizations a photo, 1 or more.
        seed: of the latent vectors.
        progress: wraps the paths, to show how far it is.

    Returns:
        The files written, or found there with the very content. Those of a photo that is in `out` itself are called
        after it, as `wedding-colorized.png`.

    Raises:
        CheckpointError: the model cannot be loaded.
        PhotoError: a photo cannot be read; those before it are written.
    """
    _, colorizer = load(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    names = dict(zip(paths, _file_names([str(path) for path in paths]), strict=True))
    for path in progress(paths):
        name = f"{names[path]}-colorized" if path.parent.resolve() == out.resolve() else names[path]
        for number, picture in enumerate(colorized(colorizer, read_photo(path), samples, seed), 1):
            image = Image.fromarray(picture)
            file = out / (f"{name}.png" if samples == 1 else f"{name}-{number}.png")
            written.append(write_new(file, partial(image.save, format="png", pnginfo=srgb_chunk())))
    return written


def colorized(colorizer: "Colorizer", photo: NDArray[np.uint8], samples: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return colorizations of a photo, uint8 [h, w, 3] as it is itself."""
    small = gray(resize(Image.fromarray(photo)))
    drawn = colorizer.draw(small[None], samples, seed)[0]
    return [_paint_large(photo, spread(boxes)) for boxes in drawn]


def _paint_large(photo: NDArray[np.uint8], pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay colors, float32 [112, 112, 2], on a photo of any size, uint8 [h, w, 3]."""
    height, width = photo.shape[:2]
    painted = np.empty_like(photo)
    channels = [Image.fromarray(np.ascontiguousarray(pixels[..., axis])) for axis in range(2)]
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        box = (0, top * SIDE / height, SIDE, bottom * SIDE / height)
        size = (width, bottom - top)
        strip = [channel.resize(size, Image.Resampling.BILINEAR, box=box) for channel in channels]
        painted[top:bottom] = paint(luma(photo[top:bottom]), np.stack([np.asarray(part) for part in strip], axis=-1))
    return painted


def _file_names(names: Sequence[str]) -> list[str]:
    """A file name for each photo, its own where no other photo has it too."""
    chosen: dict[str, None] = {}
    for name in names:
        stem = Path(name).stem
        if len(os.fsencode(stem)) > LONGEST_NAME:
            stem = os.fsencode(stem)[:LONGEST_NAME].decode(errors="ignore")
        free = stem
        number = 1
        while free in chosen:
            number += 1
            free = f"{stem}-of-{number}"
        chosen[free] = None
    return list(chosen)
