"""Damaged photos by the thousand: each becomes a photo or one line, and soon.

    python -m tests.fuzz.photos 10000            # mutated files, from seed 0
    python -m tests.fuzz.photos --one 4711 x     # write file 4711 to x, to look at what it does

A file that kills the process that reads it, or keeps it for longer than LIMIT, is a finding, and so is an error that is
not a PhotoError of one line. Which bytes a file has follows from its number and the seed alone.
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

LIMIT = 10.0
"""Seconds for a file."""
READER = "huetune.data_tools.photos.dataset:read_square"
MEMORY = 4 << 30
"""Bytes that the process that reads may take; more is an error that `read_square` must put into words."""

NUMBERS = (
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
"""At which programs break: none, the largest, the largest with a sign."""


def seeds() -> list[bytes]:
    """A small photo in each kind of file that is read."""
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


def mutated(seeds: list[bytes], rng: np.random.Generator) -> bytes:
    """One of the seeds after one to four mutations."""
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, 5)):
        # Headers are the more interesting half.
        place = int(rng.integers(len(data) + 1) if rng.random() < 0.5 else rng.integers(min(len(data), 200) + 1))
        length = int(rng.integers(1, 33))
        match rng.integers(8):
            case 0:
                data[place : place + 1] = bytes([data[place] ^ 1 << rng.integers(8)]) if place < len(data) else b""
            case 1:
                data[place : place + 1] = rng.bytes(1)
            case 2:
                number = NUMBERS[rng.integers(len(NUMBERS))]
                data[place : place + len(number)] = number
            case 3:
                data[place : place + length] = b""
            case 4:
                data[place:place] = rng.bytes(length)
            case 5:
                data[place:place] = data[place : place + length] * int(rng.integers(1, 50))
            case 6:
                other = seeds[rng.integers(len(seeds))]
                start = int(rng.integers(len(other)))
                data[place : place + length] = other[start : start + length]
            case 7:
                del data[place:]
    return bytes(data)


def judged(path: Path, read: Callable[[Path], Any] = read_square) -> str:
    """What becomes of a file: "a photo", the reason of a refusal, or after an exclamation mark what is wrong."""
    try:
        read(path)
    except PhotoError as error:
        line = str(error)
        return line.removeprefix(f"{str(path)!r}: ") if line.isprintable() else f"! {line!r}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    return "a photo"


def fuzz(count: int, seed: int = 0, reader: str = READER, limit: float = LIMIT) -> tuple[list[str], Counter[str]]:
    """Read mutated files, in a process that may die of them.

    Args:
        count: of files.
        seed: of the mutations.
        reader: what reads them, as module:function.
        limit: seconds for a file.

    Returns:
        A line for each finding, and how often files came to what end.
    """
    findings: list[str] = []
    ends: Counter[str] = Counter()
    begin = 0
    while begin < count:
        told = {"--from": begin, "--seed": seed, "--reader": reader, "--limit": limit}
        words = [str(word) for option in told.items() for word in option]
        command = [sys.executable, "-m", "tests.fuzz.photos", *words, str(count)]
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
            ends[line.split("\t", 1)[1]] += 1
            if "\t!" in line:
                findings.append(line)
        begin += len(lines)
        if child.returncode:
            findings.append(
                f"{begin}\t{'hangs' if child.returncode == 1 else f'ends the process ({child.returncode})'}"
            )
            begin += 1
    return findings, ends


def _read_on(begin: int, count: int, seed: int, reader: str, limit: float) -> None:
    module, _, function = reader.partition(":")
    read = getattr(importlib.import_module(module), function)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        path, known = Path(folder, "photo.jpg"), seeds()
        for number in range(begin, count):
            path.write_bytes(mutated(known, np.random.default_rng((seed, number))))
            faulthandler.dump_traceback_later(limit, exit=True)
            line = judged(path, read)
            faulthandler.cancel_dump_traceback_later()
            print(number, line, sep="\t", flush=True)


def main() -> int:
    """Fuzz, and say what was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("count", type=int, nargs="?", default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--from", dest="begin", type=int, help=argparse.SUPPRESS)
    options.add_argument("--reader", default=READER, help=argparse.SUPPRESS)
    options.add_argument("--limit", type=float, default=LIMIT, help="Seconds for a file.")
    options.add_argument("--one", metavar=("NUMBER", "FILE"), nargs=2)
    asked = options.parse_args()
    if asked.one:
        number, file = asked.one
        Path(file).write_bytes(mutated(seeds(), np.random.default_rng((asked.seed, int(number)))))
        return 0
    if asked.begin is not None:
        _read_on(asked.begin, asked.count, asked.seed, asked.reader, asked.limit)
        return 0
    begun = time.monotonic()
    findings, ends = fuzz(asked.count, asked.seed, asked.reader, asked.limit)
    for line in findings:
        print(ascii(line))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    refused = sum(ends.values()) - ends["a photo"]
    print(
        f"{asked.count} files in {time.monotonic() - begun:.0f} s: {ends['a photo']} photos, {refused} refused for "
        f"{len(ends) - 1} reasons, {len(findings)} findings; {most:.0f} MB at most"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
    os._exit(0)
