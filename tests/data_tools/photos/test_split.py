"""The split: no photo is in two splits, and only pixels and seed determine it."""

import hashlib
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huetune.data_tools.common.errors import PhotoError, UserError
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.photos.split import Split, split, split_first

DIGESTS = [hashlib.sha256(bytes([kind])).hexdigest() for kind in range(256)]


def photos(*kinds: int) -> PhotoSet:
    """Return photos of one gray level each; equal numbers are copies of each other."""
    count = len(kinds)
    return PhotoSet(
        names=tuple(f"file {index}" for index in range(count)),
        gray=np.repeat(np.array(kinds, np.uint8), 112 * 112).reshape(count, 112, 112),
        chroma=np.zeros((count, 14, 14, 2), np.float32),
        digests=tuple(DIGESTS[kind] for kind in kinds),
    )


def splits_of(result: Split) -> tuple[PhotoSet, PhotoSet, PhotoSet]:
    return result.training, result.validation, result.test


def members(result: Split) -> list[set[str]]:
    return [set(photo_set.digests) for photo_set in splits_of(result)]


KINDS = st.lists(st.integers(0, 30), min_size=2, max_size=60).filter(lambda kinds: len(set(kinds)) >= 2)
SEEDS = st.integers(0, 2**32)


@settings(deadline=None)
@given(KINDS, SEEDS, st.floats(0.01, 0.98), st.floats(0, 1))
def test_split_keeps_copies_together(kinds: list[int], seed: int, validation: float, rest: float) -> None:
    given_photos = photos(*kinds)
    result = split(given_photos, seed, validation, test=rest * (0.99 - validation))
    training, validating, testing = members(result)
    assert not training & validating and not training & testing and not validating & testing
    names = [name for photo_set in splits_of(result) for name in photo_set.names]
    assert sorted(names) == sorted(given_photos.names)
    assert training and validating
    for photo_set in splits_of(result):
        np.testing.assert_array_equal(photo_set.gray[:, 0, 0], [DIGESTS.index(digest) for digest in photo_set.digests])


@settings(deadline=None)
@given(KINDS, SEEDS, st.randoms(use_true_random=False))
def test_split_ignores_order_and_names(kinds: list[int], seed: int, random: Random) -> None:
    order = list(range(len(kinds)))
    random.shuffle(order)
    given_photos = photos(*kinds)
    assert members(split(given_photos, seed)) == members(split(given_photos.take(order), seed))
    assert members(split(given_photos, seed)) == members(split(photos(*[kinds[index] for index in order]), seed))


def test_split_with_same_seed_is_equal() -> None:
    once, again = split(photos(*range(50)), 7), split(photos(*range(50)), 7)
    assert [photo_set.names for photo_set in splits_of(once)] == [photo_set.names for photo_set in splits_of(again)]
    assert once.fingerprint == again.fingerprint


def test_split_with_other_seed_differs() -> None:
    found = [members(split(photos(*range(50)), seed)) for seed in range(20)]
    held_out = {frozenset(validating) for _, validating, _ in found}
    assert len(held_out) == 20


def test_split_holds_photos_out_equally_often_over_seeds() -> None:
    times = np.zeros(20)
    for seed in range(500):
        for digest in members(split(photos(*range(20)), seed))[1]:
            times[DIGESTS.index(digest)] += 1
    assert times.sum() == 500 * 4
    assert times.min() > 60
    assert times.max() < 140


def test_fingerprint_differs_between_splits_of_same_photos() -> None:
    given_photos = photos(*range(30))
    assert split(given_photos, 0).fingerprint == split(given_photos.take(range(29, -1, -1)), 0).fingerprint
    assert len({split(given_photos, seed).fingerprint for seed in range(10)}) == 10
    swapped = Split(*splits_of(split(given_photos, 0))[::-1])
    assert swapped.fingerprint != split(given_photos, 0).fingerprint


@pytest.mark.parametrize(
    ("count", "validation", "test", "sizes"),
    [
        (100, 0.2, 0.1, (70, 20, 10)),
        (100, 0.2, 0, (80, 20, 0)),
        (120, 0.25, 0.25, (60, 30, 30)),
        (10, 0.01, 0, (9, 1, 0)),
        (3, 0.2, 0.1, (2, 1, 0)),
        (2, 0.2, 0.1, (1, 1, 0)),
        (2, 0.5, 0.49, (1, 1, 0)),
        (2, 0.9, 0, (1, 1, 0)),
        (10, 0.99, 0, (1, 9, 0)),
        (4, 0.49, 0.49, (1, 2, 1)),
    ],
)
def test_split_sizes_follow_shares(count: int, validation: float, test: float, sizes: tuple[int, int, int]) -> None:
    result = split(photos(*range(count)), 3, validation, test)
    assert tuple(len(photo_set) for photo_set in splits_of(result)) == sizes


def test_split_shares_count_different_photos() -> None:
    result = split(photos(*[0] * 90, *range(1, 10)), 1, validation=0.2, test=0.1)
    assert [len(digests) for digests in members(result)] == [7, 2, 1]


def test_split_moves_few_photos_when_others_are_added() -> None:
    before, after = members(split(photos(*range(100)), 5)), members(split(photos(*range(110)), 5))
    moved = sum(len(old - new) for old, new in zip(before, after, strict=True))
    assert moved <= 10


@pytest.mark.parametrize(
    ("validation", "test"),
    [
        (0, 0.1),
        (1, 0),
        (-0.1, 0.1),
        (0.2, -0.1),
        (0.2, 1),
        (0.5, 0.5),
        (0.9, 0.2),
        (float("nan"), 0),
        (0.2, float("nan")),
    ],
)
def test_split_refuses_shares_that_leave_nothing(validation: float, test: float) -> None:
    with pytest.raises(UserError, match=f"shares that leave some photos, received {validation} and {test}"):
        split(photos(*range(20)), 0, validation, test)


@pytest.mark.parametrize(("kinds", "different"), [((), 0), ((1,), 1), ((1, 1, 1), 1)])
def test_split_of_copies_of_one_photo_raises(kinds: tuple[int, ...], different: int) -> None:
    with pytest.raises(PhotoError, match=f"two different photos are needed to hold one out, received {different}"):
        split(photos(*kinds), 0)


def test_split_first_validates_on_the_rest() -> None:
    result = split_first(photos(*range(10)), 7)
    assert result.training.names == tuple(f"file {index}" for index in range(7))
    assert result.validation.names == ("file 7", "file 8", "file 9")
    assert len(result.test) == 0


def test_split_first_drops_copies_of_training_photos() -> None:
    result = split_first(photos(0, 1, 2, 1, 3, 0, 4), 3)
    assert result.training.names == ("file 0", "file 1", "file 2")
    assert result.validation.names == ("file 4", "file 6")


@pytest.mark.parametrize(("kinds", "count"), [((0, 1, 2), 3), ((0, 1, 2), 100), ((0, 1, 0, 1), 2)])
def test_split_first_without_validation_photos_raises(kinds: tuple[int, ...], count: int) -> None:
    with pytest.raises(PhotoError, match=f"no photo is left to hold out: {len(kinds)} photos, {count} of them"):
        split_first(photos(*kinds), count)
