"""Finds photos that a model has seen in training or validation, and which therefore must not test it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.errors import CheckpointError, PhotoError
from huetune.data_tools.photos import near_duplicates
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.model.checkpoint_format import Checkpoint


def leaked_names(model: Checkpoint, photos: PhotoSet) -> list[str] | None:
    """Return the names of the photos that a model has seen.

    A model has seen the photos of its training and validation splits, and near-duplicates of these.

    Returns:
        The names, in the order of the photos; None if the model does not record what it has seen, or records perceptual
        hashes of an unknown kind, because another version of huetune wrote it.

    Raises:
        CheckpointError: the record is damaged.
    """
    seen = model.photos.get("seen")
    if seen is None:
        return None
    try:
        if seen["kind"] not in near_duplicates.HASH_KINDS:
            return None
        hashes = [near_duplicates.from_text(seen[part], seen["kind"]) for part in ("training", "validation")]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the model's record of what it has seen is damaged ({error})") from None
    known = near_duplicates.have_near_duplicate(photos.perceptual_hashes, np.concatenate(hashes))
    return [name for name, found in zip(photos.names, known, strict=True) if found]


def seen_mask(models: Iterable[Checkpoint], photos: PhotoSet) -> NDArray[np.bool_]:
    """Return for each of n photos whether at least one of the models has seen it, bool [n].

    A model that does not record what it has seen is assumed to have seen none of them.

    Raises:
        PhotoError: there are photos, and the models have seen all of them.
        CheckpointError: the record of a model is damaged.
    """
    names = {name for model in models for name in leaked_names(model, photos) or ()}
    found = np.array([name in names for name in photos.names], bool)
    if len(found) and found.all():
        raise PhotoError(
            f"the model was trained or ranked with all {len(photos)} photos or with near-duplicates of them; "
            "choose other photos"
        )
    return found
