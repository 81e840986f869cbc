"""SHA-256 checksums of the files of a folder, and checks of folders whose origin is unknown."""

import hashlib
import re
import stat
from collections.abc import Collection
from pathlib import Path

from huetune.data_tools.common.errors import CheckpointError

SUMS_FILE = "SHA256SUMS"
"""The file with the checksums, written last. `sha256sum --check SHA256SUMS` in the folder checks the same as
`check_sums`."""
STATE_FILE = "state.npz"
"""The training state, from which a training is resumed: see `model.training_state`."""
MAX_FILE_BYTES = 2**28
"""Limit for every other file: the weights of the largest model have half as many bytes."""
MAX_STATE_BYTES = 2**30
"""Limit for the training state: eight times the weights of the largest model."""
MAX_FILES = 100
MAX_SUMS_LINE_BYTES = 400


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path) -> None:
    """Check that a folder of unknown origin holds only a few regular files of limited size.

    A link could lead to any file of this machine, reading a pipe or a device may never end, and a sparse file may take
    hours to read.

    Raises:
        CheckpointError: The folder holds anything else, more than `MAX_FILES` files, or cannot be read.
    """
    try:
        entries = [path for path, _ in zip(folder.iterdir(), range(MAX_FILES + 1), strict=False)]
        for path in entries:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                raise CheckpointError(f"{str(path)!r}: is not a regular file; a model contains only regular files")
            limit = MAX_STATE_BYTES if path.name == STATE_FILE else MAX_FILE_BYTES
            if about.st_size > limit:
                raise CheckpointError(f"{str(path)!r}: has {about.st_size} bytes; in a model it has at most {limit}")
    except OSError as error:
        raise CheckpointError(f"{str(folder)!r}: cannot be read ({error.strerror})") from None
    if len(entries) > MAX_FILES:
        raise CheckpointError(f"{str(folder)!r}: holds more than {MAX_FILES} files; a model has fewer")


def check_sums(folder: Path, unlisted: Collection[str] = ()) -> None:
    """Check that a folder is as `atomic_folder` wrote it.

    Args:
        folder: Folder with a file SHA256SUMS.
        unlisted: Names of files that may exist without a checksum.

    Raises:
        CheckpointError: A file is missing, changed or has no checksum, or SHA256SUMS is missing or damaged.
    """
    try:
        if (folder / SUMS_FILE).stat().st_size > MAX_FILES * MAX_SUMS_LINE_BYTES:
            raise CheckpointError(f"{str(folder / SUMS_FILE)!r}: is larger than the checksums of {MAX_FILES} files")
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        parts = [re.fullmatch(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]*)", line) for line in lines]
        sums = {part[2]: part[1] for part in parts if part}
        if len(sums) != len(lines):
            # The pattern admits no path to another folder, and each name must be listed once.
            raise CheckpointError(f"{str(folder / SUMS_FILE)!r}: is not a list of checksums and file names")
        files = {path.name for path in folder.iterdir()} - {SUMS_FILE}
        if not set(sums) <= files or not files - set(sums) <= set(unlisted):
            raise CheckpointError(f"{str(folder)!r}: holds other files than its {SUMS_FILE} lists")
        damaged = [name for name in sums if sha256_of(folder / name) != sums[name]]
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r}: has no {SUMS_FILE}, so it cannot be checked for damage") from None
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder)!r}: cannot be read ({error})") from None
    if damaged:
        raise CheckpointError(f"{str(folder / damaged[0])!r}: is damaged; its SHA-256 is not the one in {SUMS_FILE}")


def is_whole(folder: Path) -> bool:
    """Return whether a folder is undamaged: it passes `check_files` and `check_sums`."""
    try:
        check_files(folder)
        check_sums(folder)
    except CheckpointError:
        return False
    return True
