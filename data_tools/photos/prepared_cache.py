"""Cache of prepared photos on disk, keyed by the content of their files.

Names, folders and times are not part of the key: a photo that was copied or renamed is found, a changed one is not.
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
from huetune.data_tools.photos.versions import PREPARATION_VERSION, READER_VERSION
from huetune.data_tools.storage.user_folders import cache_home

SKIP_REASONS_VERSION = 4
"""Which files are skipped in decoding, and the texts of the reasons. Sets of another version are not found."""
SET_FORMAT_VERSION = 2
"""Format of a cached set. Version 1 had no checksums of the files. Sets of another version are not found."""
MAX_CACHED_SETS = 16
"""Largest number of cached sets; if there are more, the least recently used is deleted."""
MAX_OPEN_SETS = 3
"""Largest number of cached sets in memory, up to 300 MB each."""

_FILE_NAME = re.compile(r"[0-9a-f]{64}(\..+)?\.npz")
# "grey" is the stored name of the luma.
_KEYS = ("contents", "reasons", "grey", "chroma", "digests", "sides", "notes")
_SHA256_BYTES = 32


class PreparedPhoto(NamedTuple):
    """The arrays that a photo file became.

    Attributes:
        gray: uint8 [112, 112], 0..255, the luma.
        chroma: float32 [14, 14, 2], the chroma map.
        digest: sha256 of the decoded pixels, hexadecimal.
        side: pixels of the shorter side of the photo in the file.
        note: warning about the file, such as a damaged color profile; empty if there is none.
    """

    gray: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digest: str
    side: int = PHOTO_SIDE
    note: str = ""


def stack(photos: Sequence[PreparedPhoto]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the luma, uint8 [n, 112, 112], and the chroma maps, float32 [n, 14, 14, 2], of n photos; n may be 0."""
    gray = np.array([photo.gray for photo in photos], np.uint8).reshape(-1, PHOTO_SIDE, PHOTO_SIDE)
    return gray, np.array([photo.chroma for photo in photos], np.float32).reshape(
        -1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2
    )


class SkippedPhoto(NamedTuple):
    """The reason why a file cannot be used.

    Attributes:
        reason: what is wrong and what to do, without the path of the file.
        permanent: the reason is the content of the file, and not a temporary lack of memory or of open files.
    """

    reason: str
    permanent: bool = True


Outcome = PreparedPhoto | SkippedPhoto
"""What a photo file became."""


def default_cache_folder() -> Path | None:
    """Return the folder of cached sets, `prepared` in `cache_home`; None if nothing is cached."""
    home = cache_home()
    return home and home / "prepared"


def set_key(contents: Iterable[bytes], reader_version: int = READER_VERSION) -> str:
    """Return the key of a cached set, which depends on its files and on all versions that determine the arrays.

    These include the versions of Pillow, which decodes, and of NumPy, which rounds.

    Args:
        contents: sha256 of each file's bytes, in order.
        reader_version: see `versions.READER_VERSION`.

    Returns:
        64 hexadecimal digits.
    """
    versions = (PREPARATION_VERSION, SKIP_REASONS_VERSION, SET_FORMAT_VERSION, reader_version)
    libraries = f"Pillow {PIL.__version__}, NumPy {np.__version__}"
    key = hashlib.sha256(f"{', '.join(map(str, versions))}, {libraries}\n".encode())
    for content in contents:
        key.update(content)
    return key.hexdigest()


class CachedSets:
    """Looks up photos in all cached sets by the content of their files. Threads may share an instance.

    A set is read as a whole when the first of its photos is looked up.

    Args:
        folder: folder of the cached sets.
        reader_version: see `versions.READER_VERSION`.
        files: number of files to look up. A set of as many files is searched first, then the most recently used.
    """

    def __init__(self, folder: Path, reader_version: int, files: int):
        self._lock = threading.Lock()
        self._folder = folder
        self._indices: dict[str, dict[bytes, int]] = {}
        self._opened: dict[str, list[Outcome]] = {}
        with contextlib.suppress(OSError):
            paths = [path for path in folder.iterdir() if _FILE_NAME.fullmatch(path.name)]
            for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
                contents = _contents_of(path)
                # The name of a set depends on its versions, too.
                if contents and path.stem == set_key(contents, reader_version):
                    self._indices[path.stem] = {content: index for index, content in enumerate(contents)}
        self._indices = dict(sorted(self._indices.items(), key=lambda item: len(item[1]) != files))

    def outcome(self, content: bytes) -> Outcome | None:
        """Return what the file with this content became; None if it is in no cached set.

        Args:
            content: sha256 of the file's bytes.
        """
        with self._lock:
            for key in (*self._opened, *(key for key in self._indices if key not in self._opened)):
                index = self._indices[key].get(content)
                if index is not None and (outcomes := self._open(key)):
                    return outcomes[index]
        return None

    def mark_used(self, key: str) -> bool:
        """Mark a set as the most recently used; return whether it exists and no damage was found."""
        if key not in self._indices:
            return False
        with contextlib.suppress(OSError):
            os.utime(self._folder / f"{key}.npz")
        return True

    def _open(self, key: str) -> list[Outcome] | None:
        if key not in self._opened and len(self._opened) < MAX_OPEN_SETS:
            if (outcomes := _read_set(self._folder / f"{key}.npz")) is None:
                del self._indices[key]
            else:
                self._opened[key] = outcomes
        return self._opened.get(key)


def _contents_of(path: Path) -> list[bytes] | None:
    """Return the sha256 of each file of a set, in order; None if the set is damaged or has another format."""
    try:
        with np.load(path, allow_pickle=False) as file:
            contents = file["contents"]
    except Exception:  # for damaged files NumPy and zipfile raise many types: BadZipFile, SyntaxError ...
        return None
    if contents.dtype != np.uint8 or contents.ndim != 2 or contents.shape[1] != _SHA256_BYTES:
        return None
    return [content.tobytes() for content in contents]


def _read_set(path: Path) -> list[Outcome] | None:
    """Return what the files of a set became, in order; None if the set is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            contents, reasons, gray, chroma, digests, sides, notes = (file[key] for key in _KEYS)
    except Exception:  # as in `_contents_of`
        return None
    if reasons.dtype.kind != "U" or reasons.shape != (len(contents),):
        return None
    photos = int((reasons == "").sum())
    expected: tuple[tuple[NDArray, type, tuple[int, ...]], ...] = (
        (gray, np.uint8, (PHOTO_SIDE, PHOTO_SIDE)),
        (chroma, np.float32, (PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2)),
        (digests, np.uint8, (_SHA256_BYTES,)),
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


def write_set(folder: Path, key: str, contents: Sequence[bytes], outcomes: Sequence[Outcome]) -> None:
    """Cache a set atomically. Nothing is cached if a photo was skipped for a temporary reason.

    Errors of the disk are ignored, because the set can be made again.

    Args:
        folder: folder of the cached sets, which is made if it does not exist.
        key: key of the set, from `set_key`.
        contents: sha256 of each file's bytes, in order.
        outcomes: what each file became.
    """
    photos = [outcome for outcome in outcomes if isinstance(outcome, PreparedPhoto)]
    if any(isinstance(outcome, SkippedPhoto) and not outcome.permanent for outcome in outcomes):
        return
    reasons = np.array([outcome.reason if isinstance(outcome, SkippedPhoto) else "" for outcome in outcomes], np.str_)
    gray, chroma = stack(photos)
    digests = np.frombuffer(bytes.fromhex("".join(photo.digest for photo in photos)), np.uint8)
    arrays = {
        "contents": np.frombuffer(b"".join(contents), np.uint8).reshape(-1, _SHA256_BYTES),
        "reasons": reasons,
        "grey": gray,
        "chroma": chroma,
        "digests": digests.reshape(-1, _SHA256_BYTES),
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
        _delete_old_sets(folder)


def _delete_old_sets(folder: Path) -> None:
    """Delete the least recently used sets, and drafts that a killed process left behind."""
    entries = [path for path in folder.iterdir() if _FILE_NAME.fullmatch(path.name)]
    entries.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in entries[:-MAX_CACHED_SETS]:
        path.unlink(missing_ok=True)
