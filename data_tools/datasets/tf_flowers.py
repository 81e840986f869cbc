"""TensorFlow's archive of flower photos."""

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

URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"
SHA256 = "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"
"""Of the archive, as TensorFlow Datasets records it (tf_flowers)."""


def fetch_flowers(out: Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Download the archive, check it, and unpack it.

    The archive is kept beside the photos: a second call checks it and downloads nothing.

    Args:
        out: folder for both.
        url: of a tar archive, gzipped.
        sha256: of the archive, hexadecimal; anything else is thrown away unopened.

    Returns:
        The folder that holds a folder of photos for each class.

    Raises:
        UserError: no such URL or sum, or pooch is not installed.
        StorageError: the folder cannot be made.
        PhotoError: it cannot be downloaded, is not what it should be, or cannot be unpacked.
    """
    if not re.fullmatch(r"(https?|s?ftp)://.+", url):
        raise UserError(f"--url {url!r}: is none, which begins with https:// for example")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"--sha256 {sha256!r}: is none, which has 64 hexadecimal digits")
    pooch = import_extra("pooch", "fetch")
    require_writable(out)
    new = not out.exists()
    pooch.get_logger().setLevel("WARNING")
    try:
        archive = pooch.retrieve(
            url, known_hash=f"sha256:{sha256}", fname="flower_photos.tgz", path=out, progressbar=stderr.is_terminal
        )
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=out) as draft:
            # Whatever a name says, nothing is written outside: Python before 3.11.4 has no `filter="data"`.
            inside = Path(draft).resolve()
            files = [file for file in tar if file.isfile() and (inside / file.name).resolve().is_relative_to(inside)]
            for file in files:
                file.mode, file.uid, file.gid = 0o644, os.getuid(), os.getgid()
            tar.extractall(draft, files)
            made = [path.relative_to(inside) for path in sorted(inside.rglob("*")) if path.is_file()]
            for name in made:
                if (out / name).exists() and not filecmp.cmp(out / name, inside / name, shallow=False):
                    raise FileExistsError(f"{str(out / name)!r} is there and another file; choose another --out")
            for name in made:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (inside / name).replace(out / name)
    except Exception as error:
        if new:
            with contextlib.suppress(OSError):
                out.rmdir()
        reason = first_line(error)
        raise PhotoError(f"{url!r}: cannot be fetched ({reason}); try again, or download it by other means") from None
    photos = [out / file.name for file in files if file.name.lower().endswith(".jpg")]
    if not photos:
        raise PhotoError(f"{url!r}: there are no photos in the archive")
    folder = photos[0].parent.parent
    return folder if folder.is_relative_to(out) else out
