"""Download of tf_flowers, TensorFlow's data set of flower photos."""

import contextlib
import filecmp
import os
import re
import tarfile
import tempfile
from pathlib import Path

from huetune.data_tools.common.errors import PhotoError, UserError, first_line
from huetune.data_tools.common.optional_imports import import_extra
from huetune.data_tools.common.terminal import stderr
from huetune.data_tools.storage.atomic import require_writable

ARCHIVE_URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"
ARCHIVE_SHA256 = "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"
"""Checksum that TensorFlow Datasets records for the archive."""


def fetch_flowers(out: Path, url: str = ARCHIVE_URL, sha256: str = ARCHIVE_SHA256) -> Path:
    """Download the archive, verify its checksum and unpack it.

    The archive stays beside the photos. A second call verifies it and downloads nothing.

    Args:
        out: folder for the archive and the photos.
        url: URL of a gzipped tar archive.
        sha256: hexadecimal checksum of the archive. An archive with another checksum is deleted unopened.

    Returns:
        The folder that contains a folder of photos for each class.

    Raises:
        UserError: the URL or the checksum is malformed, or pooch is not installed.
        StorageError: the folder cannot be made.
        PhotoError: the archive cannot be downloaded, has another checksum, or cannot be unpacked.
    """
    if not re.fullmatch(r"(https?|s?ftp)://.+", url):
        raise UserError(f"--url {url!r}: not a URL; expected https://, http://, ftp:// or sftp://")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"--sha256 {sha256!r}: not a checksum; expected 64 hexadecimal digits")
    pooch = import_extra("pooch", "fetch")
    require_writable(out)
    new = not out.exists()
    pooch.get_logger().setLevel("WARNING")
    try:
        archive = pooch.retrieve(
            url, known_hash=f"sha256:{sha256}", fname="flower_photos.tgz", path=out, progressbar=stderr.is_terminal
        )
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=out) as draft:
            # No name in the archive may lead out of the folder. Python before 3.11.4 has no `filter="data"`.
            inside = Path(draft).resolve()
            files = [file for file in tar if file.isfile() and (inside / file.name).resolve().is_relative_to(inside)]
            for file in files:
                file.mode, file.uid, file.gid = 0o644, os.getuid(), os.getgid()
            tar.extractall(draft, files)
            unpacked = [path.relative_to(inside) for path in sorted(inside.rglob("*")) if path.is_file()]
            for name in unpacked:
                if (out / name).exists() and not filecmp.cmp(out / name, inside / name, shallow=False):
                    raise FileExistsError(f"{str(out / name)!r} exists and is another file; choose another --out")
            for name in unpacked:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (inside / name).replace(out / name)
    except Exception as error:
        if new:
            with contextlib.suppress(OSError):
                out.rmdir()
        reason = first_line(error)
        raise PhotoError(f"{url!r}: cannot be fetched ({reason}); try again, or download it in another way") from None
    photos = [out / file.name for file in files if file.name.lower().endswith(".jpg")]
    if not photos:
        raise PhotoError(f"{url!r}: there are no photos in the archive; pass another --url")
    folder = photos[0].parent.parent
    return folder if folder.is_relative_to(out) else out
