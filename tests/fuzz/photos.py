"""Fuzzing of photo decoding: each damaged file must become a photo or a PhotoError of one line, in time.

    python -m tests.fuzz.photos 10000            # read 10,000 mutated files, from seed 0
    python -m tests.fuzz.photos --one 4711 x     # write file 4711 to x, to reproduce a finding

Findings are files that kill the process that reads them, take longer than TIMEOUT_SECONDS, or raise anything but a
PhotoError of one line. The bytes of a file depend only on its number and the seed.
"""

import argparse
import contextlib
import faulthandler
import importlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos.dataset import read_square

TIMEOUT_SECONDS = 10.0
"""Time to read one file."""
READER = "huetune.data_tools.photos.dataset:read_square"
MAX_MEMORY_BYTES = 4 << 30
"""Memory of the reading process. `read_square` must turn a lack of memory into a PhotoError."""

BOUNDARY_NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff",
    b"\x7f\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
)
"""Numbers at which programs often fail: zero, and the largest unsigned and signed ones."""


def seed_files() -> list[bytes]:
    """Return a small photo in each supported format."""
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    smooth = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a rose"
    frames: dict[str, Any] = {"save_all": True, "append_images": [noisy]}
    wide = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (smooth, "JPEG", {"exif": exif, "comment": b"a rose"}),
        (noisy, "JPEG", {"progressive": True, "subsampling": 0}),
        (smooth.convert("CMYK"), "JPEG", {}),
        (smooth, "MPO", frames),
        (smooth, "PNG", {"exif": exif}),
        (noisy.convert("P"), "PNG", {"transparency": 3}),
        (smooth.convert("RGBA"), "PNG", frames),
        (smooth.convert("1"), "PNG", {}),
        (wide, "PNG", {}),
        (smooth, "GIF", frames),
        (noisy, "GIF", {"interlace": 1}),
        (smooth, "WEBP", {"exif": exif}),
        (noisy.convert("RGBA"), "WEBP", {"lossless": True, **frames}),
        (smooth, "BMP", {}),
        (noisy.convert("P"), "BMP", {}),
        (smooth, "TIFF", {"exif": exif}),
        *((smooth, "TIFF", {"compression": kind}) for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        (smooth.convert("1"), "TIFF", {"compression": "group4"}),
        (wide, "TIFF", {}),
        (noisy, "PPM", {}),
        (wide, "PPM", {}),
        (smooth, "AVIF", {"exif": exif}),
    ]
    return [_saved(image, kind, options) for image, kind, options in kinds]


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mutate(files: list[bytes], rng: np.random.Generator) -> bytes:
    """Return one of the files after one to four mutations."""
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 5)):
        # Every other mutation is in the header, where more of the decoders' code is reached.
        position = int(rng.integers(len(data) + 1) if rng.random() < 0.5 else rng.integers(min(len(data), 200) + 1))
        length = int(rng.integers(1, 33))
        match rng.integers(8):
            case 0:
                data[position : position + 1] = (
                    bytes([data[position] ^ 1 << rng.integers(8)]) if position < len(data) else b""
                )
            case 1:
                data[position : position + 1] = rng.bytes(1)
            case 2:
                number = BOUNDARY_NUMBERS[rng.integers(len(BOUNDARY_NUMBERS))]
                data[position : position + len(number)] = number
            case 3:
                data[position : position + length] = b""
            case 4:
                data[position:position] = rng.bytes(length)
            case 5:
                data[position:position] = data[position : position + length] * int(rng.integers(1, 50))
            case 6:
                other = files[rng.integers(len(files))]
                start = int(rng.integers(len(other)))
                data[position : position + length] = other[start : start + length]
            case 7:
                del data[position:]
    return bytes(data)


def read_outcome(path: Path, read: Callable[[Path], Any] = read_square) -> str:
    """Return "a photo", the reason why a file is skipped, or a finding, which begins with an exclamation mark."""
    try:
        read(path)
    except PhotoError as error:
        line = str(error)
        return line.removeprefix(f"{str(path)!r}: ") if line.isprintable() else f"! {line!r}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    return "a photo"


def fuzz(
    count: int, seed: int = 0, reader: str = READER, timeout: float = TIMEOUT_SECONDS
) -> tuple[list[str], Counter[str]]:
    """Read mutated files in child processes, which may die.

    Args:
        count: number of files.
        seed: seed of the mutations.
        reader: function that reads a file, as module:function.
        timeout: seconds for each file.

    Returns:
        A line for each finding, and the number of files by outcome.
    """
    findings: list[str] = []
    outcomes: Counter[str] = Counter()
    begin = 0
    while begin < count:
        options = {"--from": begin, "--seed": seed, "--reader": reader, "--timeout": timeout}
        arguments = [str(word) for option in options.items() for word in option]
        command = [sys.executable, "-m", "tests.fuzz.photos", *arguments, str(count)]
        root = Path(__file__).parents[2]
        child = subprocess.Popen(
            command,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        lines = child.communicate()[0].splitlines()
        for line in lines:
            outcomes[line.split("\t", 1)[1]] += 1
            if "\t!" in line:
                findings.append(line)
        begin += len(lines)
        if child.returncode:
            findings.append(
                f"{begin}\t{'timeout' if child.returncode == 1 else f'the process died ({child.returncode})'}"
            )
            begin += 1
    return findings, outcomes


def _read_files(begin: int, count: int, seed: int, reader: str, timeout: float) -> None:
    module, _, function = reader.partition(":")
    read = getattr(importlib.import_module(module), function)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        path, files = Path(folder, "photo.jpg"), seed_files()
        for number in range(begin, count):
            path.write_bytes(mutate(files, np.random.default_rng((seed, number))))
            faulthandler.dump_traceback_later(timeout, exit=True)
            line = read_outcome(path, read)
            faulthandler.cancel_dump_traceback_later()
            print(number, line, sep="\t", flush=True)


def main() -> int:
    """Fuzz and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="begin", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--reader", default=READER, help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="Seconds for each file.")
    parser.add_argument("--one", metavar=("NUMBER", "FILE"), nargs=2)
    options = parser.parse_args()
    if options.one:
        number, file = options.one
        Path(file).write_bytes(mutate(seed_files(), np.random.default_rng((options.seed, int(number)))))
        return 0
    if options.begin is not None:
        _read_files(options.begin, options.count, options.seed, options.reader, options.timeout)
        return 0
    start = time.monotonic()
    findings, outcomes = fuzz(options.count, options.seed, options.reader, options.timeout)
    for line in findings:
        print(ascii(line))
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    skipped = sum(outcomes.values()) - outcomes["a photo"]
    print(
        f"{options.count} files in {time.monotonic() - start:.0f} s: {outcomes['a photo']} photos, "
        f"{skipped} skipped for {len(outcomes) - 1} reasons, {len(findings)} findings; peak memory {peak_mb:.0f} MB"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
    os._exit(0)
