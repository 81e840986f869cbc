"""The split of photos into training, validation and test."""

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
    """Photos in three splits. Copies and near-duplicates of a photo are in the same split as the photo.

    Attributes:
        training: the weights learn from these photos.
        validation: trials are ranked by these photos.
        test: used for neither; the final check of the winner.
    """

    training: PhotoSet
    validation: PhotoSet
    test: PhotoSet

    @property
    def summary(self) -> dict[str, Any]:
        """Size of each split, fingerprint and kind of perceptual hash, as runs and models store them."""
        counts = {"training": len(self.training), "validation": len(self.validation), "test": len(self.test)}
        return {**counts, "fingerprint": self.fingerprint, "near_copies": near_duplicates.HASH_KIND}

    @property
    def seen(self) -> dict[str, str]:
        """Perceptual hashes of the training and validation photos, by which a model recognizes them later."""
        splits = {"training": self.training, "validation": self.validation}
        return {
            "kind": near_duplicates.HASH_KIND,
            **{name: near_duplicates.to_text(photos.perceptual_hashes) for name, photos in splits.items()},
        }

    @property
    def order(self) -> str:
        """A sha256 over the digests of all photos in order.

        Shuffling and latent vectors depend on the seed and on this order.
        """
        digests = (digest for photos in (self.training, self.validation, self.test) for digest in photos.digests)
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """A sha256 over the pixels of all photos and their splits, independent of their order."""
        splits = (self.training, self.validation, self.test)
        return hashlib.sha256("".join(photos.fingerprint for photos in splits).encode()).hexdigest()


def split(
    photos: PhotoSet,
    seed: int,
    validation: float = 0.2,
    test: float = 0.1,
    *,
    hash_kind: str | None = near_duplicates.HASH_KIND,
) -> Split:
    """Split photos into training, validation and test by their pixels.

    The split of a photo follows from its pixels and the seed, not from its name or the order of the files. So copies
    and near-duplicates are always in one split, and few photos change theirs when others are added.

    Args:
        photos: at least two different ones.
        seed: another seed gives another split.
        validation: share of the different photos in the validation split, above 0 and below 1.
        test: share of the different photos in the test split, at least 0; both shares add up to less than 1.
        hash_kind: a key of `near_duplicates.HASH_KINDS`. Near-duplicates by these hashes count as one photo. Earlier
            runs used other kinds; None, as in the earliest, compares pixels only.

    Raises:
        PhotoError: there are fewer than two different photos.
        UserError: a share is out of range.
    """
    if not (0 < validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(f"validation and test must be shares that leave some photos, received {validation} and {test}")
    keys = _group_keys(photos, near_duplicates.HASH_KINDS[hash_kind]) if hash_kind else photos.digests
    order = sorted(set(keys), key=lambda key: _shuffle_key(seed, key))
    if len(order) < 2:
        raise PhotoError(f"at least two different photos are needed to hold one out, received {len(order)}")
    validation_count = min(max(1, round(validation * len(order))), len(order) - 1)
    test_count = min(round(test * len(order)), len(order) - validation_count - 1)
    names = ["validation"] * validation_count + ["test"] * test_count
    names += ["training"] * (len(order) - len(names))
    name_of = dict(zip(order, names, strict=True))
    splits = np.array([name_of[key] for key in keys])
    return Split(**{name: photos.take(np.flatnonzero(splits == name)) for name in ("training", "validation", "test")})


def _shuffle_key(seed: int, digest: str) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()


def may_be_in_test_split(seed: int, digest: str, files: int, validation: float = 0.2, test: float = 0.1) -> bool:
    """Return whether `split` may put a photo into the test split, before the other photos are read.

    The keys by which `split` shuffles photos are uniformly distributed, so the position of a photo is known up to
    chance; the bounds are four standard deviations wider. A photo that follows a near-duplicate into the test split can
    be missed.

    Args:
        seed: seed of the split.
        digest: digest of the photo.
        files: approximate number of photos.
        validation: see `split`.
        test: see `split`.
    """
    position = int.from_bytes(_shuffle_key(seed, digest)[:8]) / 2**64
    margin = 2 / math.sqrt(files)
    return validation - margin <= position <= validation + test + margin


def _group_keys(photos: PhotoSet, words: int) -> list[str]:
    """Return for each photo the smallest digest in its group of near-duplicates.

    Args:
        photos: n photos.
        words: how many words of the perceptual hashes are compared, 3 or 5.
    """
    groups = near_duplicates.group_near_duplicates(photos.perceptual_hashes[:, :words]).tolist()
    smallest: dict[int, str] = {}
    for group, digest in zip(groups, photos.digests, strict=True):
        smallest[group] = min(digest, smallest.get(group, digest))
    return [smallest[group] for group in groups]


def split_first(photos: PhotoSet, count: int) -> Split:
    """Train on the first photos and validate on the rest, as the experiment log does. The test split is empty.

    Args:
        photos: ordered by name.
        count: number of training photos. Copies and near-duplicates of them are dropped from the rest.

    Raises:
        PhotoError: no photo is left for validation.
    """
    hashes = photos.perceptual_hashes
    seen = near_duplicates.have_near_duplicate(hashes, hashes[:count])
    rest = [index for index in range(count, len(photos)) if not seen[index]]
    if not rest:
        raise PhotoError(f"no photo is left to hold out: {len(photos)} photos, {count} of them to train on")
    return Split(photos.take(range(count)), photos.take(rest), photos.take([]))
