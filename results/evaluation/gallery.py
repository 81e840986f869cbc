"""Colorizes the same photos with several models, as pictures small enough to embed in a web page."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.photos.color import gray_to_luma, paint, upsample_chroma
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.model.checkpoint import load_colorizer

MAX_PHOTOS = 20
SAMPLES_PER_MODEL = 2
WEBP_QUALITY = 85
"""At this quality a picture of 112 x 112 pixels takes 2 to 4 KB and looks like the original."""


@dataclass(frozen=True)
class Picture:
    """A photo as one model colorizes it, or the photo itself.

    Attributes:
        name: name of the model, or "original" for the photo in color, or "grayscale" for its luma.
        urls: a `data:` URL for each sample.
        delta_e: mean CIEDE2000 between the samples and the truth; None for "original" and "grayscale".
    """

    name: str
    urls: tuple[str, ...]
    delta_e: float | None = None


def select_evenly(photos: PhotoSet) -> PhotoSet:
    """Return the photos that a page shows: all of them, or MAX_PHOTOS of them, evenly spread, if there are more."""
    return photos.take(np.unique(np.linspace(0, len(photos) - 1, min(len(photos), MAX_PHOTOS)).round().astype(int)))


def gallery(
    checkpoints: Mapping[str, Path], photos: PhotoSet, truth: NDArray[np.uint8], seed: int = 0
) -> dict[str, list[Picture]]:
    """Return the pictures of each photo by the photo's name: the truth, its luma, and the colorizations of each model.

    Args:
        checkpoints: checkpoint folders by the display name of the model.
        photos: n photos.
        truth: uint8 [n, 112, 112, 3], the same photos in color.
        seed: seed of the latent vectors, which are the same for all models.

    Raises:
        CheckpointError: a model cannot be loaded.
    """
    rows = [
        [Picture("original", (_url(colors),)), Picture("grayscale", (_url(gray),))]
        for colors, gray in zip(truth, photos.gray, strict=True)
    ]
    labs = [rgb2lab(colors) for colors in truth]
    built: dict[Any, Any] = {}
    for name, checkpoint in checkpoints.items():
        _, colorizer = load_colorizer(checkpoint, built)
        drawn = colorizer.draw(photos.gray, SAMPLES_PER_MODEL, seed)
        for row, gray, chroma_maps, lab in zip(rows, photos.gray, drawn, labs, strict=True):
            painted = paint(gray_to_luma(gray), upsample_chroma(chroma_maps))
            delta_e = float(np.mean([deltaE_ciede2000(lab, rgb2lab(sample)) for sample in painted]))
            row.append(Picture(name, tuple(map(_url, painted)), delta_e))
    return dict(zip(photos.names, rows, strict=True))


def _url(picture: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=WEBP_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
