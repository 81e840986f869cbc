"""Colorizes photos of any size with a model, and writes the results as PNG files."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.photos.color import PHOTO_SIDE, gray, luma, paint, upsample_chroma
from huetune.data_tools.photos.color_profile import srgb_chunk
from huetune.data_tools.photos.dataset import read_photo, resize
from huetune.data_tools.storage.output_files import write_new
from huetune.model.checkpoint import load_colorizer

if TYPE_CHECKING:
    from huetune.model.colorizer import Colorizer

MAX_NAME_BYTES = 200
"""File systems allow 255; a number and a file extension are appended."""
STRIP_ROWS = 512
"""Pixel rows that are colorized at a time. The float arrays of a whole photo of 50 megapixels would take gigabytes."""

Progress = Callable[[Iterable], Iterable]


def colorize_files(
    checkpoint: Path, paths: Sequence[Path], out: Path, *, samples: int = 1, seed: int = 0, progress: Progress = iter
) -> list[Path]:
    """Colorize photo files at their own size: the chroma is the model's, the luma is the photo's.

    Args:
        checkpoint: folder of a model.
        paths: photo files of any size and format that `huetune data check` accepts, gray or in color.
        out: folder for the PNG files, which is created. No file in it is replaced; a name that is taken gets a number.
        samples: colorizations per photo, 1 or more.
        seed: seed of the latent vectors.
        progress: wraps the iterable of the paths, to show progress.

    Returns:
        The files that were written, and files with the same content that were there already. A photo that lies in `out`
        itself gives `wedding-colorized.png`.

    Raises:
        CheckpointError: the model cannot be loaded.
        PhotoError: a photo cannot be read; the photos before it are written.
    """
    _, colorizer = load_colorizer(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    names = dict(zip(paths, unique_stems([str(path) for path in paths]), strict=True))
    for path in progress(paths):
        name = f"{names[path]}-colorized" if path.parent.resolve() == out.resolve() else names[path]
        for number, picture in enumerate(colorize_photo(colorizer, read_photo(path), samples, seed), 1):
            image = Image.fromarray(picture)
            file = out / (f"{name}.png" if samples == 1 else f"{name}-{number}.png")
            written.append(write_new(file, partial(image.save, format="png", pnginfo=srgb_chunk())))
    return written


def colorize_photo(
    colorizer: "Colorizer", photo: NDArray[np.uint8], samples: int, seed: int
) -> list[NDArray[np.uint8]]:
    """Return `samples` colorizations of a photo, uint8 [h, w, 3], each of the photo's own shape and dtype."""
    small = gray(resize(Image.fromarray(photo)))
    drawn = colorizer.draw(small[None], samples, seed)[0]
    return [_paint_at_full_size(photo, upsample_chroma(chroma_map)) for chroma_map in drawn]


def unique_stems(names: Sequence[str]) -> list[str]:
    """Return a file name without extension for each photo: its own stem, with `-of-2` and so on where it is taken.

    Args:
        names: names or paths of photos.
    """
    chosen: dict[str, None] = {}
    for name in names:
        stem = Path(name).stem
        if len(os.fsencode(stem)) > MAX_NAME_BYTES:
            stem = os.fsencode(stem)[:MAX_NAME_BYTES].decode(errors="ignore")
        free = stem
        number = 1
        while free in chosen:
            number += 1
            free = f"{stem}-of-{number}"
        chosen[free] = None
    return list(chosen)


def _paint_at_full_size(photo: NDArray[np.uint8], chroma: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Combine chroma, float32 [112, 112, 2], with the luma of a photo of any size, uint8 [h, w, 3]."""
    height, width = photo.shape[:2]
    painted = np.empty_like(photo)
    channels = [Image.fromarray(np.ascontiguousarray(chroma[..., axis])) for axis in range(2)]
    for top in range(0, height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height)
        box = (0, top * PHOTO_SIDE / height, PHOTO_SIDE, bottom * PHOTO_SIDE / height)
        size = (width, bottom - top)
        strip = [channel.resize(size, Image.Resampling.BILINEAR, box=box) for channel in channels]
        painted[top:bottom] = paint(luma(photo[top:bottom]), np.stack([np.asarray(part) for part in strip], axis=-1))
    return painted
