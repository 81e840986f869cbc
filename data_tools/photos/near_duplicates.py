"""Near-duplicates: perceptual hashes that find copied, re-encoded, resized, slightly cropped or brightened photos."""

import base64
import binascii
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from huetune.data_tools.photos.color import PHOTO_SIDE

HASH_KIND = "dct-128-middle"
"""Name of the hash that this version computes. It is stored with the hashes, because kinds cannot be compared."""
HASH_KINDS = {"together": 3, "dct-128": 3, HASH_KIND: 5}
"""uint64 words per photo of each kind of hash, by the kind's stored name.

Runs and models of earlier versions record the first two, which lack the hash of the photo's center; "together" is what
runs recorded before the kinds had names.
"""
HASH_BITS = 128
"""Bits of the hash of a whole photo, and of the hash of its center."""
MAX_DIFFERENT_BITS = 28
"""Largest Hamming distance between the hashes of near-duplicates.

Measured on 140 roses and on 400 and 100 scenes of the synthetic garden: hashes of two different pictures differ in at
least 42 (roses) and 38 bits. All roses are found again after they were saved at quality 60 or 20, halved in size, made
20% brighter or darker, cropped by 2% at every side, or all of this at once (at most 26 bits).
"""
MAX_DIFFERENT_CENTER_BITS = 36
"""Largest Hamming distance between the hashes of the centers of near-duplicates.

A frame or a backdrop that photos share determines most of the hash of a whole photo, and chains of such photos would
count as one picture: among roses in a white passe-partout or a medallion, up to 9 of 9,730 pairs are within
`MAX_DIFFERENT_BITS`, but the hashes of their centers differ in at least 42 bits. The center alone would not be enough
(34 bits). For near-duplicates the centers differ in at most 26 bits.
"""
MIN_CONTRAST = 2.0
"""Standard deviation of the luma, 0 to 255, below which a photo has no hash: then only equal pixels are duplicates."""

_CENTER = slice(PHOTO_SIDE // 4, PHOTO_SIDE - PHOTO_SIDE // 4)
_FREQUENCIES = 12
_COEFFICIENTS: NDArray[np.intp] = np.array(
    sorted(np.ndindex(_FREQUENCIES, _FREQUENCIES), key=lambda index: (max(index), index))[1 : HASH_BITS + 1]
)
_BLOCK = 2048
"""Photos that are compared with as many others at once; their products take 16 MB."""

PerceptualHashes = NDArray[np.uint64]
"""uint64 [n, 5].

Word 0 is the first 64 bits of the photo's digest, which are equal if the pixels are. Words 1 and 2 are the hash of the
whole photo, words 3 and 4 the hash of its center. A center without contrast has the hash 0 and is not compared.
"""


def perceptual_hashes(gray: NDArray[np.uint8], digests: Sequence[str]) -> PerceptualHashes:
    """Return the perceptual hashes of photos.

    The hash is the one that Zauner describes (Implementation and Benchmarking of Perceptual Image Hash Functions, 2010,
    3.2.1): one bit for each of the lowest frequencies of the luma's DCT, set if the coefficient is above the median.
    With 128 of them instead of 64, no two of thousands of photos match by chance. The center half of a photo has a hash
    of its own. A mirrored photo has another hash.

    Args:
        gray: uint8 [n, 112, 112], 0 to 255.
        digests: n hexadecimal sha256 sums.

    Returns:
        uint64 [n, 5].
    """
    hashes = np.zeros((len(gray), HASH_KINDS[HASH_KIND]), np.uint64)
    for index, (luma, digest) in enumerate(zip(gray, digests, strict=True)):
        content = bytes.fromhex(digest)
        hashes[index, :3] = np.frombuffer(content[:24], ">u8")
        if luma.std() >= MIN_CONTRAST:
            hashes[index, 1:3] = _dct_hash(luma)
            center = luma[_CENTER, _CENTER]
            if center.std() >= MIN_CONTRAST:
                hashes[index, 3:] = _dct_hash(center)
    return hashes


def _dct_hash(luma: NDArray[np.uint8]) -> NDArray[np.uint64]:
    basis = _dct_basis(len(luma))
    coefficients = (basis @ luma.astype(float) @ basis.T)[tuple(_COEFFICIENTS.T)]
    return np.packbits(coefficients > np.median(coefficients)).view(">u8")


@functools.cache
def _dct_basis(side: int) -> NDArray[np.float64]:
    # Integers: their sums stay far below 2^53 and are exact, so a hash is the same on every machine.
    return np.rint(1024 * np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * (2 * np.arange(side) + 1) / (2 * side)))


def have_near_duplicate(hashes: PerceptualHashes, others: PerceptualHashes) -> NDArray[np.bool_]:
    """Return for each photo whether it is a copy or near-duplicate of one of the others.

    Args:
        hashes: uint64 [n, 5], of the photos.
        others: uint64 [m, 3 or 5], of the other photos. If they are of an older kind, only the words that both have are
            compared.

    Returns:
        bool [n].
    """
    found = np.isin(hashes[:, 0], others[:, 0])
    hashes = hashes[:, : others.shape[1]]
    for start in range(0, len(hashes), _BLOCK):
        for index, _ in _near_pairs(hashes[start : start + _BLOCK], others):
            found[start + index] = True
    return found


def group_near_duplicates(hashes: PerceptualHashes) -> NDArray[np.intp]:
    """Return the number of each photo's group of near-duplicates.

    Groups are connected components: two photos are also in one group if a chain of near-duplicates links them.

    Args:
        hashes: uint64 [n, 3 or 5].

    Returns:
        intp [n].
    """
    distinct, inverse = np.unique(hashes, axis=0, return_inverse=True)
    group = np.arange(len(distinct))
    for start in range(0, len(distinct), _BLOCK):
        # Block by block: all pairs among thousands of frames of one film would not fit in memory.
        for index, other in _near_pairs(distinct[start : start + _BLOCK], distinct[start:]):
            ends = group[start + index], group[start + other]
            links = coo_array((np.ones(len(index), bool), ends), shape=(len(group),) * 2)
            group = connected_components(links, directed=False)[1][group]
    return group[inverse.reshape(-1)].astype(np.intp)


def _near_pairs(
    hashes: PerceptualHashes, others: PerceptualHashes
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the indices of near-duplicate pairs, for one block of `others` at a time."""
    signs = _signs(hashes)
    for start in range(0, len(others), _BLOCK):
        block = others[start : start + _BLOCK]
        # The product of signs is the number of equal bits minus that of different bits, and uses all cores.
        index, other = np.nonzero(signs @ _signs(block).T >= HASH_BITS - 2 * MAX_DIFFERENT_BITS)
        if others.shape[1] > 3:
            near = _near_centers(hashes[index, 3:], block[other, 3:])
            index, other = index[near], other[near]
        if len(index):
            yield index, start + other


def _signs(hashes: PerceptualHashes) -> NDArray[np.float32]:
    """Return the bits of the hashes of whole photos as -1 and 1, float32 [n, 128]."""
    return np.unpackbits(np.ascontiguousarray(hashes[:, 1:3]).view(np.uint8), axis=1) * np.float32(2) - np.float32(1)


def _near_centers(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return whether the hashes of centers, uint64 [n, 2], are near or one of them is empty, bool [n]."""
    empty = ~hashes.any(axis=1) | ~others.any(axis=1)
    return empty | (np.bitwise_count(hashes ^ others).sum(axis=1) <= MAX_DIFFERENT_CENTER_BITS)


def to_text(hashes: PerceptualHashes) -> str:
    """Return hashes as base64 text for a JSON file, 54 letters per photo."""
    return base64.b64encode(hashes.astype(">u8").tobytes()).decode()


def from_text(text: str, kind: str = HASH_KIND) -> PerceptualHashes:
    """Return the hashes that `to_text` encoded.

    Args:
        text: base64.
        kind: a key of `HASH_KINDS`, the kind of the encoded hashes.

    Raises:
        ValueError: the text is not base64, or not a whole number of hashes.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"perceptual hashes of photos are not base64 text ({error})") from None
    return np.frombuffer(content, ">u8").reshape(-1, HASH_KINDS[kind]).astype(np.uint64)
