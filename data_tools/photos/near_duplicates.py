"""Which photos are the same picture: copied, saved again, resized, slightly cropped or brightened."""

import base64
import binascii
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from huetune.data_tools.photos.color import SIDE

KIND = "dct-128-middle"
"""Name of these marks, kept beside them: other ones could not be compared with them."""
KINDS = {"together": 3, "dct-128": 3, KIND: 5}
"""Numbers of a mark by its kind: older ones, which models and runs have kept, lack the middle, and one had no name."""
BITS = 128
NEAR = 28
"""Bits in which the looks of one picture may differ.

Measured on 140 roses, and on 400 and 100 scenes of the garden: two different pictures differ in 42 (roses) and 38 bits
or more. All roses are found again that were saved at quality 60 or 20, halved, made 20 % brighter or darker, cut by
2 % at every side, or all of it at once (26 bits at most).
"""
NEAR_MIDDLE = 36
"""Bits in which the looks of one picture's middle may differ.

A frame that photos share, or a backdrop, decides most of a look, and chains of such photos would count as one picture:
of roses in a white passe-partout or a medallion up to 9 of 9,730 pairs are within NEAR, but their middles differ in 42
bits and more (34, were it for the middle alone), those of one picture in 26 at most.
"""
FLATTEST = 2.0
"""Standard deviation of a luma, 0..255, below which there is nothing to look at: only equal pixels count."""

_MIDDLE = slice(SIDE // 4, SIDE - SIDE // 4)
_LOWEST = 12
_PLACES: NDArray[np.intp] = np.array(
    sorted(np.ndindex(_LOWEST, _LOWEST), key=lambda place: (max(place), place))[1 : BITS + 1]
)
_BLOCK = 2048
"""Photos that are compared with so many others at once: 16 MB of products."""

Marks = NDArray[np.uint64]
"""uint64 [n, 5]: the first 64 bits of a photo's digest, equal where the pixels are; its look and its middle's, 128 bits
each. A middle without anything to see has no bits, and decides nothing."""


def marks(gray: NDArray[np.uint8], digests: Sequence[str]) -> Marks:
    """Return what photos are found again by.

    A look is a perceptual hash as Zauner describes it (Implementation and Benchmarking of Perceptual Image Hash
    Functions, 2010, 3.2.1): whether each of the lowest frequencies of the luma's DCT is above their median. With 128 of
    them instead of 64 a set of thousands has no two that meet by chance. The middle half has a look of its own.
    Mirrored photos do not look alike.

    Args:
        gray: uint8 [n, 112, 112], 0..255.
        digests: n sha256, hexadecimal.
    """
    found = np.zeros((len(gray), KINDS[KIND]), np.uint64)
    for index, (luma, digest) in enumerate(zip(gray, digests, strict=True)):
        content = bytes.fromhex(digest)
        found[index, :3] = np.frombuffer(content[:24], ">u8")
        if luma.std() >= FLATTEST:
            found[index, 1:3] = _look(luma)
            middle = luma[_MIDDLE, _MIDDLE]
            if middle.std() >= FLATTEST:
                found[index, 3:] = _look(middle)
    return found


def _look(luma: NDArray[np.uint8]) -> NDArray[np.uint64]:
    waves = _waves(len(luma))
    heights = (waves @ luma.astype(float) @ waves.T)[tuple(_PLACES.T)]
    return np.packbits(heights > np.median(heights)).view(">u8")


@functools.cache
def _waves(side: int) -> NDArray[np.float64]:
    # Whole numbers: their sums stay far below 2^53 and are exact, so a look is the same on every machine.
    return np.rint(1024 * np.cos(np.pi * np.arange(_LOWEST)[:, None] * (2 * np.arange(side) + 1) / (2 * side)))


def known(some: Marks, others: Marks) -> NDArray[np.bool_]:
    """Return for each photo whether one of the others shows its picture, bool [n].

    Args:
        some: of n photos.
        others: of others; where these are of an older kind, only what both have is compared.
    """
    found = np.isin(some[:, 0], others[:, 0])
    some = some[:, : others.shape[1]]
    for start in range(0, len(some), _BLOCK):
        for one, _ in _alike(some[start : start + _BLOCK], others):
            found[start + one] = True
    return found


def groups(some: Marks) -> NDArray[np.intp]:
    """Return a number for each photo, intp [n]: those that show one picture have one, through others too."""
    distinct, place = np.unique(some, axis=0, return_inverse=True)
    group = np.arange(len(distinct))
    for start in range(0, len(distinct), _BLOCK):
        # Taken up block by block: of thousands of frames of one film all pairs would be too many to keep.
        for one, other in _alike(distinct[start : start + _BLOCK], distinct[start:]):
            ends = group[start + one], group[start + other]
            links = coo_array((np.ones(len(one), bool), ends), shape=(len(group),) * 2)
            group = connected_components(links, directed=False)[1][group]
    return group[place.reshape(-1)].astype(np.intp)


def _alike(some: Marks, others: Marks) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the places of pairs that show one picture, a block of others at a time."""
    signs = _signs(some)
    for start in range(0, len(others), _BLOCK):
        part = others[start : start + _BLOCK]
        # A product of signs is the number of equal bits less that of different ones, and takes all cores.
        one, other = np.nonzero(signs @ _signs(part).T >= BITS - 2 * NEAR)
        if others.shape[1] > 3:
            near = _middles_alike(some[one, 3:], part[other, 3:])
            one, other = one[near], other[near]
        if len(one):
            yield one, start + other


def _signs(part: Marks) -> NDArray[np.float32]:
    """The bits of looks as -1 and 1, float32 [n, 128]."""
    return np.unpackbits(np.ascontiguousarray(part[:, 1:3]).view(np.uint8), axis=1) * np.float32(2) - np.float32(1)


def _middles_alike(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether the looks of middles, uint64 [n, 2], are those of one picture."""
    empty = ~some.any(axis=1) | ~others.any(axis=1)
    return empty | (np.bitwise_count(some ^ others).sum(axis=1) <= NEAR_MIDDLE)


def to_text(some: Marks) -> str:
    """Return marks as a word that a JSON file can hold: 54 letters a photo."""
    return base64.b64encode(some.astype(">u8").tobytes()).decode()


def from_text(text: str, kind: str = KIND) -> Marks:
    """Return the marks that `to_text` wrote.

    Args:
        text: as it wrote it.
        kind: one of `KINDS`, which it was then.

    Raises:
        ValueError: it is none of its words.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"no marks of photos ({error})") from None
    return np.frombuffer(content, ">u8").reshape(-1, KINDS[kind]).astype(np.uint64)
