"""The same photos as several models color them, small enough for a page."""

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
from huetune.model.checkpoint import load_model

PHOTOS = 20
"""Photos at most, evenly from all."""
SAMPLES = 2
"""Colorizations of a photo by each model."""
QUALITY = 85
"""Of WebP: at this one a picture of 112 x 112 takes 2 to 4 KB and looks like the original."""


@dataclass(frozen=True)
class Picture:
    """What one model, or nobody, made of a photo.

    Attributes:
        name: of the model, or "truth" or "gray".
        urls: `data:` URLs of its samples.
        delta_e: mean CIEDE2000 to the truth; None for what is no answer.
    """

    name: str
    urls: tuple[str, ...]
    delta_e: float | None = None


def evenly(photos: PhotoSet) -> PhotoSet:
    """Return the photos that a page shows: all, or PHOTOS of them, evenly, where there are more."""
    return photos.take(np.unique(np.linspace(0, len(photos) - 1, min(len(photos), PHOTOS)).round().astype(int)))


def gallery(
    checkpoints: Mapping[str, Path], photos: PhotoSet, truth: NDArray[np.uint8], seed: int = 0
) -> dict[str, list[Picture]]:
    """Return each photo's truth, its gray and what models make of it, by the photo's name.

    Args:
        checkpoints: folders of models by what they are called.
        photos: n photos.
        truth: uint8 [n, 112, 112, 3], the same photos.
        seed: of the latent vectors, which are the same for all models.

    Raises:
        CheckpointError: a model cannot be loaded.
    """
    rows = [
        [Picture("truth", (_url(colors),)), Picture("gray", (_url(gray),))]
        for colors, gray in zip(truth, photos.gray, strict=True)
    ]
    labs = [rgb2lab(colors) for colors in truth]
    built: dict[Any, Any] = {}
    for name, checkpoint in checkpoints.items():
        _, colorizer = load_model(checkpoint, built)
        drawn = colorizer.draw(photos.gray, SAMPLES, seed)
        for row, gray, boxes, lab in zip(rows, photos.gray, drawn, labs, strict=True):
            painted = paint(gray_to_luma(gray), upsample_chroma(boxes))
            delta_e = float(np.mean([deltaE_ciede2000(lab, rgb2lab(sample)) for sample in painted]))
            row.append(Picture(name, tuple(map(_url, painted)), delta_e))
    return dict(zip(photos.names, rows, strict=True))


def _url(picture: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
