"""How good predicted chroma maps are, without the loss weight in it."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OBJECTIVES: dict[str, Literal["minimize", "maximize"]] = {
    "chroma_mse": "minimize",
    "skill": "maximize",
    "chroma_ratio_error": "minimize",
}
"""What a search can rank trials by, and which way is better."""
RANGES = {
    "chroma_mse": (0.0, math.inf),
    "skill": (-math.inf, 1.0),
    "chroma_ratio": (0.0, math.inf),
    "chroma_ratio_error": (0.0, math.inf),
    "delta_e": (0.0, math.inf),
    "psnr": (-math.inf, math.inf),
    "ssim": (-1.0, 1.0),
}
"""Smallest and largest value that each metric, and so a mean of it, can have."""


def better(objective: str, new: float, old: float | None) -> bool:
    """Whether a value of an objective is better than an earlier one, or the first."""
    if old is None:
        return True
    return new < old if OBJECTIVES[objective] == "minimize" else new > old


def scores(
    drawn: NDArray[np.float32], truth: NDArray[np.float32], mean_chroma: NDArray[np.float32]
) -> dict[str, float]:
    """Return the figures of predicted chroma maps.

    Args:
        drawn: float32 [n, samples, 14, 14, 2], each sample judged by itself.
        truth: float32 [n, 14, 14, 2].
        mean_chroma: float32 [2], of the training photos.

    Returns:
        `chroma_mse`: mean squared error; `skill`: 1 - chroma_mse / that of the zero line, 0 where it is no better than
        one colour for everything; `chroma_ratio`: mean predicted saturation over mean true saturation, 1 where it is as
        colourful as the photos; `chroma_ratio_error`: the distance of that from 1.
    """
    mse = _squares(drawn, truth) / drawn.size
    zero = _squares(_everywhere(mean_chroma, truth), truth) / truth.size
    saturation = sum(float(np.linalg.norm(samples, axis=-1).sum()) for samples in drawn)
    true_saturation = float(np.linalg.norm(truth, axis=-1).mean())
    ratio = saturation / (drawn.size / 2) / max(true_saturation, 1e-9)
    return {
        "chroma_mse": mse,
        "skill": 1 - mse / max(zero, 1e-12),
        "chroma_ratio": ratio,
        "chroma_ratio_error": abs(ratio - 1),
    }


def zero_line(truth: NDArray[np.float32], mean_chroma: NDArray[np.float32]) -> dict[str, float]:
    """Return the figures of one colour for everything: what a model must beat to have learnt anything.

    Args:
        truth: float32 [n, 14, 14, 2].
        mean_chroma: float32 [2], of the training photos, all that such an answer may know.

    Returns:
        As `scores`.
    """
    return scores(_everywhere(mean_chroma, truth), truth, mean_chroma)


def _squares(drawn: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """The sum of squared errors, a photo at a time: all differences at once would be most of what a photo costs."""
    return sum(float(np.square(samples - true).sum()) for samples, true in zip(drawn, truth, strict=True))


def _everywhere(mean_chroma: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """One colour as the one sample of each photo."""
    return np.broadcast_to(mean_chroma, truth[:, None].shape)
