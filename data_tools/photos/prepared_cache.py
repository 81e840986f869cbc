"""PreparedPhoto photos, kept on disk and found again by the bytes of their files.

Names, folders and times decide nothing: a photo that was copied or renamed is found, one with a changed byte is not.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from huetune.data_tools.photos.color import PATCHES_PER_SIDE, PHOTO_SIDE
from huetune.data_tools.photos.source import READING
from huetune.data_tools.storage.user_folders import cache_home

VERSION = 1
"""Of what becomes of a photo in sRGB: raised whenever that changes. An export records it, and runs with no other.

How files become photos in sRGB is `data_tools.photos.source.READING`. Sets of another version of either are not found.
"""
REFUSED = 3
"""Likewise of what is refused; what is not is the same."""
FORMAT = 2
"""Of a set's file. Sets of another format are not found, and go in their turn; 1 did not keep the sums of the files."""
MAX_CACHED_SETS = 16
"""Sets that are kept; then the longest unused goes."""
MAX_OPEN_SETS = 3
"""Sets in memory at once, up to 300 MB each."""

_ENTRY = re.compile(r"[0-9a-f]{64}(\..+)?\.npz")
_PARTS = ("contents", "reasons", "grey", "chroma", "digests", "sides", "notes")
_SUM_BYTES = 32


class PreparedPhoto(NamedTuple):
    """What one photo became.

    Attributes:
        gray: uint8 [112, 112], 0..255, the luma.
        chroma: float32 [14, 14, 2], the chroma map.
        digest: sha256 of the decoded pixels, hexadecimal.
        side: pixels of the shorter side of the file's picture.
        note: what was wrong with the file and did not keep it from being used; mostly empty.
    """

    gray: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digest: str
    side: int = PHOTO_SIDE
    note: str = ""


def stacked(photos: Sequence[PreparedPhoto]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the luma and the chroma maps of photos, also of none: uint8 [n, 112, 112], float32 [n, 14, 14, 2]."""
    gray = np.array([photo.gray for photo in photos], np.uint8).reshape(-1, PHOTO_SIDE, PHOTO_SIDE)
    return gray, np.array([photo.chroma for photo in photos], np.float32).reshape(
        -1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2
    )


class SkippedPhoto(NamedTuple):
    """Why a file is no photo.

    Attributes:
        reason: without the file's path.
        lasting: the reason lies in the file's bytes, not in a want of memory or of open files that will pass.
    """

    reason: str
    lasting: bool = True


def default_cache_folder() -> Path | None:
    """Return where sets are kept unless told otherwise, `prepared` in `cache_home`; None for nowhere."""
    home = cache_home()
    return home and home / "prepared"


def set_key(contents: Iterable[bytes], reading: int = READING) -> str:
    """Return the name under which a set is kept.

    Pillow decodes and NumPy rounds: what another version of them made is not found either.

    Args:
        contents: sha256 of each file's bytes, in order.
        reading: see `data_tools.photos.source.READING`.

    Returns:
        64 hexadecimal digits.
    """
    versions = f"{VERSION}, {REFUSED}, {FORMAT}, {reading}, Pillow {PIL.__version__}, NumPy {np.__version__}"
    key = hashlib.sha256(f"{versions}\n".encode())
    for content in contents:
        key.update(content)
    return key.hexdigest()


class CachedSets:
    """What the files of all kept sets became, by the bytes of each.

    A set is read whole when the first of its photos is asked for. Threads may share it.

    Args:
        folder: where sets are kept.
        reading: see `data_tools.photos.source.READING`.
        files: how many there are to look up: a set of as many is preferred to one that was used later.
    """

    def __init__(self, folder: Path, reading: int, files: int):
        self._lock = threading.Lock()
        self._folder = folder
        self._places: dict[str, dict[bytes, int]] = {}
        self._opened: dict[str, list[PreparedPhoto | SkippedPhoto]] = {}
        with contextlib.suppress(OSError):
            paths = [path for path in folder.iterdir() if _ENTRY.fullmatch(path.name)]
            for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
                contents = _contents_of(path)
                # By its name a set proves its versions, too.
                if contents and path.stem == set_key(contents, reading):
                    self._places[path.stem] = {content: place for place, content in enumerate(contents)}
        self._places = dict(sorted(self._places.items(), key=lambda item: len(item[1]) != files))

    def outcome(self, content: bytes) -> PreparedPhoto | SkippedPhoto | None:
        """Return what a file of these bytes became; None where no set has it.

        Args:
            content: sha256 of the file's bytes.
        """
        with self._lock:
            for key in (*self._opened, *(key for key in self._places if key not in self._opened)):
                place = self._places[key].get(content)
                if place is not None and (outcomes := self._open(key)):
                    return outcomes[place]
        return None

    def use(self, key: str) -> bool:
        """Count a set as used now; return whether it is there and not known to be damaged."""
        if key not in self._places:
            return False
        with contextlib.suppress(OSError):
            os.utime(self._folder / f"{key}.npz")
        return True

    def _open(self, key: str) -> list[PreparedPhoto | SkippedPhoto] | None:
        if key not in self._opened and len(self._opened) < MAX_OPEN_SETS:
            if (outcomes := _read_set(self._folder / f"{key}.npz")) is None:
                del self._places[key]
            else:
                self._opened[key] = outcomes
        return self._opened.get(key)


def _contents_of(path: Path) -> list[bytes] | None:
    """The sha256 of the bytes of each file of a set, in order; None where it is of another format, or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            contents = file["contents"]
    except Exception:  # a damaged file makes NumPy and zipfile raise nearly anything: BadZipFile, SyntaxError ...
        return None
    if contents.dtype != np.uint8 or contents.ndim != 2 or contents.shape[1] != _SUM_BYTES:
        return None
    return [content.tobytes() for content in contents]


def _read_set(path: Path) -> list[PreparedPhoto | SkippedPhoto] | None:
    """What the files of a set became, in their order; None where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            contents, reasons, gray, chroma, digests, sides, notes = (file[part] for part in _PARTS)
    except Exception:  # as above
        return None
    if reasons.dtype.kind != "U" or reasons.shape != (len(contents),):
        return None
    photos = int((reasons == "").sum())
    expected: tuple[tuple[NDArray, type, tuple[int, ...]], ...] = (
        (gray, np.uint8, (PHOTO_SIDE, PHOTO_SIDE)),
        (chroma, np.float32, (PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2)),
        (digests, np.uint8, (_SUM_BYTES,)),
        (sides, np.int64, ()),
    )
    if notes.dtype.kind != "U" or notes.shape != (photos,):
        return None
    if any(array.dtype != dtype or array.shape != (photos, *shape) for array, dtype, shape in expected):
        return None
    prepared = zip(gray, chroma, digests, sides, notes, strict=True)
    return [SkippedPhoto(str(reason)) if reason else _photo(*next(prepared)) for reason in reasons]


def _photo(
    gray: NDArray[np.uint8], chroma: NDArray[np.float32], digest: NDArray[np.uint8], side: np.int64, note: np.str_
) -> PreparedPhoto:
    return PreparedPhoto(gray, chroma, digest.tobytes().hex(), int(side), str(note))


def write_set(
    folder: Path, key: str, contents: Sequence[bytes], outcomes: Sequence[PreparedPhoto | SkippedPhoto]
) -> None:
    """Keep what the files of a set became, whole or not at all.

    A disk that does not take it is no error, for it can all be made again. What may be otherwise tomorrow is not kept.

    Args:
        folder: where sets are kept; made where it is not there.
        key: of the set, as `set_key` returns it.
        contents: sha256 of each file's bytes, in order.
        outcomes: what each became.
    """
    photos = [outcome for outcome in outcomes if isinstance(outcome, PreparedPhoto)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, SkippedPhoto)]
    if not all(outcome.lasting for outcome in refused):
        return
    reasons = np.array([outcome.reason if isinstance(outcome, SkippedPhoto) else "" for outcome in outcomes], np.str_)
    gray, chroma = stacked(photos)
    digests = np.frombuffer(bytes.fromhex("".join(photo.digest for photo in photos)), np.uint8)
    arrays = {
        "contents": np.frombuffer(b"".join(contents), np.uint8).reshape(-1, _SUM_BYTES),
        "reasons": reasons,
        "grey": gray,
        "chroma": chroma,
        "digests": digests.reshape(-1, _SUM_BYTES),
        "sides": np.array([photo.side for photo in photos], np.int64),
        "notes": np.array([photo.note for photo in photos], np.str_),
    }
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{key}.", suffix=".npz", dir=folder)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(folder / f"{key}.npz")
        finally:
            draft.unlink(missing_ok=True)
        _trim(folder)


def _trim(folder: Path) -> None:
    """Drop the longest unused sets. Drafts count too: those of a killed process go in their turn."""
    entries = [path for path in folder.iterdir() if _ENTRY.fullmatch(path.name)]
    entries.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in entries[:-MAX_CACHED_SETS]:
        path.unlink(missing_ok=True)
