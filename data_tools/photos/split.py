"""Which photos a model learns from, which rank it, and which have the last word."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from huetune.data_tools.common.errors import PhotoError, UserError
from huetune.data_tools.photos import near_duplicates
from huetune.data_tools.photos.dataset import PhotoSet


@dataclass(frozen=True)
class Split:
    """Photos in three parts, of which no two share a photo or a near copy of one.

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
        return {**counts, "fingerprint": self.fingerprint, "near_copies": near_duplicates.KIND}

    @property
    def seen(self) -> dict[str, str]:
        """What a model keeps of the photos that it learns from and is ranked on, to know them again."""
        parts = {"training": self.training, "validation": self.validation}
        return {
            "kind": near_duplicates.KIND,
            **{name: near_duplicates.to_text(part.marks) for name, part in parts.items()},
        }

    @property
    def order(self) -> str:
        """A sha256 over all photos as they come: by their order the seed shuffles them and draws latent vectors."""
        digests = (digest for part in (self.training, self.validation, self.test) for digest in part.digests)
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """A sha256 over the pixels of all photos and the parts they are in."""
        parts = (self.training, self.validation, self.test)
        return hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()


def split(
    photos: PhotoSet,
    seed: int,
    validation: float = 0.2,
    test: float = 0.1,
    *,
    near_copies: str | None = near_duplicates.KIND,
) -> Split:
    """Split photos by their pixels.

    The order of the files and their names decide nothing: a photo's part follows from its pixels and the seed, so
    copies of one photo always share a part, near copies too, and adding photos moves few of the others.

    Args:
        photos: at least two different ones.
        seed: another seed, another split.
        validation: share of the different photos held out for ranking, above 0 and below 1.
        test: share of them for the last word, 0 or more; the sum of both is below 1.
        near_copies: one of `likeness.KINDS`: by these marks photos that look the same count as one; older runs have
            others, and the oldest None, which went by equal pixels alone.

    Raises:
        PhotoError: fewer than two different photos.
        UserError: shares outside of these.
    """
    if not (0 < validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(f"validation and test must be shares that leave some photos, received {validation} and {test}")
    names = _pictures(photos, near_duplicates.KINDS[near_copies]) if near_copies else photos.digests
    order = sorted(set(names), key=lambda digest: _rank(seed, digest))
    if len(order) < 2:
        raise PhotoError(f"at least two different photos are needed to hold one out, received {len(order)}")
    held_out = min(max(1, round(validation * len(order))), len(order) - 1)
    last = min(round(test * len(order)), len(order) - held_out - 1)
    parts = {digest: 1 if rank < held_out else 2 if rank < held_out + last else 0 for rank, digest in enumerate(order)}
    part = np.array([parts[digest] for digest in names])
    training, ranking, word = (photos.take(np.flatnonzero(part == index)) for index in range(3))
    return Split(training, ranking, word)


def _rank(seed: int, digest: str) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()


def may_be_tested(seed: int, digest: str, files: int, validation: float = 0.2, test: float = 0.1) -> bool:
    """Return whether `split` may take a photo for the test split, which is known before the others are read.

    What ranks photos is spread evenly, so a photo's share of those ahead of it is known but for chance: four standard
    deviations are allowed for. A near-duplicate, which goes where another photo goes, can be missed.

    Args:
        seed: of the split.
        digest: of the photo.
        files: about as many as there are photos.
        validation: see `split`.
        test: see `split`.
    """
    share = int.from_bytes(_rank(seed, digest)[:8]) / 2**64
    chance = 2 / math.sqrt(files)
    return validation - chance <= share <= validation + test + chance


def _pictures(photos: PhotoSet, numbers: int) -> list[str]:
    """For each photo the least digest of all that show its picture, by so many numbers of its mark."""
    groups = near_duplicates.groups(photos.marks[:, :numbers]).tolist()
    least: dict[int, str] = {}
    for group, digest in zip(groups, photos.digests, strict=True):
        least[group] = min(digest, least.get(group, digest))
    return [least[group] for group in groups]


def first(photos: PhotoSet, count: int) -> Split:
    """Learn from the first photos and hold out the rest, as the log did.

    Args:
        photos: in the order of their names.
        count: photos to learn from; copies and near copies of them among the rest are dropped.

    Raises:
        PhotoError: no other photo is left to hold out.
    """
    marks = photos.marks
    seen = near_duplicates.known(marks, marks[:count])
    rest = [index for index in range(count, len(photos)) if not seen[index]]
    if not rest:
        raise PhotoError(f"no photo is left to hold out: {len(photos)} photos, {count} of them to train on")
    return Split(photos.take(range(count)), photos.take(rest), photos.take([]))
