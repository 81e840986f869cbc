"""Which photos a model learns from, which rank it, and which have the last word."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_tools.errors import PhotoError, UserError
from data_tools.photos import PhotoSet


@dataclass(frozen=True)
class Split:
    """Photos in three parts, of which no two share a photo.

    Attributes:
        training: the weights learn from these.
        validation: held out; trials are ranked on these.
        test: seen by neither.
    """

    training: PhotoSet
    validation: PhotoSet
    test: PhotoSet

    @property
    def summary(self) -> dict[str, Any]:
        """How many photos each part has, and the fingerprint: what a record of a training says of its photos."""
        counts = {"training": len(self.training), "validation": len(self.validation), "test": len(self.test)}
        return {**counts, "fingerprint": self.fingerprint}

    @property
    def fingerprint(self) -> str:
        """A sha256 over the pixels of all photos and the parts they are in."""
        parts = (self.training, self.validation, self.test)
        return hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()


def split(photos: PhotoSet, seed: int, validation: float = 0.2, test: float = 0.1) -> Split:
    """Split photos by their pixels.

    The order of the files and their names decide nothing: a photo's part follows from its pixels and the seed, so
    copies of one photo always share a part, and adding photos moves few of the others.

    Args:
        photos: at least two different ones.
        seed: another seed, another split.
        validation: share of the different photos held out for ranking, above 0 and below 1.
        test: share of them for the last word, 0 or more; the sum of both is below 1.

    Raises:
        PhotoError: fewer than two different photos.
        UserError: shares outside of these.
    """
    if not (0 < validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(f"validation and test must be shares that leave some photos, received {validation} and {test}")
    order = sorted(set(photos.digests), key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
    if len(order) < 2:
        raise PhotoError(f"at least two different photos are needed to hold one out, received {len(order)}")
    held_out = min(max(1, round(validation * len(order))), len(order) - 1)
    last = min(round(test * len(order)), len(order) - held_out - 1)
    parts = {digest: 1 if rank < held_out else 2 if rank < held_out + last else 0 for rank, digest in enumerate(order)}
    part = np.array([parts[digest] for digest in photos.digests])
    training, ranking, word = (photos.take(np.flatnonzero(part == index)) for index in range(3))
    return Split(training, ranking, word)


def first(photos: PhotoSet, count: int) -> Split:
    """Learn from the first photos and hold out the rest, as the log did.

    Args:
        photos: in the order of their names.
        count: photos to learn from; copies of them among the rest are dropped.

    Raises:
        PhotoError: no other photo is left to hold out.
    """
    seen = set(photos.digests[:count])
    rest = [index for index in range(count, len(photos)) if photos.digests[index] not in seen]
    if not rest:
        raise PhotoError(f"no photo is left to hold out: {len(photos)} photos, {count} of them to train on")
    return Split(photos.take(range(count)), photos.take(rest), photos.take([]))
