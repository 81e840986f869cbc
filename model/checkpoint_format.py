"""The format of a trained model on disk: its files, its schemas and the class `Checkpoint`.

A checkpoint is the folder that a trial or `huetune train` writes. An export is a portable checkpoint: it also has a
model card, a self-test and a description of how photos are prepared.
"""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from huetune.data_tools.photos.color import PATCH_SIDE, PHOTO_SIDE
from huetune.data_tools.photos.versions import PREPARATION_VERSION
from huetune.data_tools.storage.checksums import SUMS_FILE
from huetune.model.config import Config

CHECKPOINT_SCHEMA = 2
"""Schema of a checkpoint. Schema 1 had no checksums."""
EXPORT_SCHEMA = 3
SETTINGS_FILE, WEIGHTS_FILE = "settings.json", "weights.npz"
MODEL_CARD_FILE, SELF_TEST_FILE = "README.md", "probe.npz"
FILES_BY_SCHEMA = {
    1: {SETTINGS_FILE, WEIGHTS_FILE},
    2: {SETTINGS_FILE, WEIGHTS_FILE, SUMS_FILE},
    3: {SETTINGS_FILE, WEIGHTS_FILE, SUMS_FILE, MODEL_CARD_FILE, SELF_TEST_FILE},
}
EXPORT_LISTED_FILES = (WEIGHTS_FILE, MODEL_CARD_FILE, SELF_TEST_FILE)
"""The files whose sizes and checksums are in the settings of an export."""
EPOCH_LOG_FILE = "log.json"
"""The metrics of each epoch. Only `huetune train` writes this file, and the training state, into the folder of a model;
a search records epochs in its study."""
PREPARATION = {
    "version": PREPARATION_VERSION,
    "side": PHOTO_SIDE,
    "box": PATCH_SIDE,
    "luma": "ITU-R BT.601, 0 to 1",
    "chroma": "for each box the mean of saturation x (cos hue, sin hue), saturation = (max - min) / 255",
}
"""How the pixels of a photo, in sRGB, are prepared for a model. It is stored in every export, with the older word "box"
for a patch, and an export with another preparation is refused."""
VERSIONED_PACKAGES = ("huetune", "tensorflow", "keras", "numpy", "pillow")
"""The packages that the numbers of a model depend on."""


def package_versions(packages: Iterable[str] = VERSIONED_PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of installed packages, by their names."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


@dataclass(frozen=True)
class Checkpoint:
    """A trained model without its weights: its settings, and how it was trained.

    Attributes:
        config: settings.
        seed: seed of the training.
        metrics: metrics of the epoch that the weights are of, as `Trainer.epoch` returns them.
        mean_chroma: float [2], mean chroma of the training photos: the prediction of the baseline.
        photos: `training`, `validation` and `test`: number of photos; `fingerprint`: sha256 of the decoded pixels of
            all photos; `seen`: perceptual hashes of the training and validation photos, see `Split.seen`; `order`: see
            `Split.order`. Older versions wrote neither `seen` nor `order`, and a search has the order in its manifest.
        origin: what the model was trained for. A search writes `run`, `trial` and `objective`. `preset` is the preset
            that the model is, `based_on` the preset whose settings were changed. `huetune train` also writes the
            requested `epochs`, `begun` (ISO 8601 in UTC; older versions: local time without an offset), and how to read
            the photos again: `source`, and `first`, the number of leading photos to train on, None for a split by seed.
        versions: see `package_versions`.
    """

    config: Config
    seed: int
    metrics: Mapping[str, float]
    mean_chroma: tuple[float, ...]
    photos: Mapping[str, Any]
    origin: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=package_versions)

    @property
    def record(self) -> dict[str, Any]:
        """The fields as `SETTINGS_FILE` stores them."""
        stored = asdict(self)
        return {STORED_NAMES.get(name, name): value for name, value in stored.items()}


STORED_NAMES = {"metrics": "figures"}
"""Fields of `Checkpoint` that the settings store under an older name."""
