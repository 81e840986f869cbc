"""Kinds of files, by their first bytes and their suffix."""

import os
import re
from collections import Counter
from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF")
"""The decoders of Pillow that files may reach. Rarer, less tested decoders are excluded."""
READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF"
SUFFIXES_OF_READER_1 = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)
"""Suffixes by which reader version 1 found photos."""
SUFFIXES = SUFFIXES_OF_READER_1 | {".jfif", ".jpe", ".jif", ".apng", ".dib", ".pbm", ".pnm"}
"""Files with these suffixes are read, or skipped with a reason. The kind of other files is decided by their content."""
HEAD_BYTES = 64
"""Bytes at the beginning of a file by which its kind is recognized."""
PHOTO, OTHER = "photo", "other"
"""Kinds of the files that huetune reads and of those that are no photos. Other kinds are unsupported photo formats."""

_PHOTO = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s+[#\d]|.{4}ftypavi[fs]"
    rb"|.{4}ftypm[is]f1.*avif|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
RAW = "camera raw"
_HEADS = {
    "HEIC": rb".{4}ftyp(?:he[iv][cxms]|m[is]f1)",
    "JPEG XL": rb"\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP {2}|\xff\x4f\xff\x51",
    RAW: rb"FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|FOVb|.{4}ftypcrx",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"\x76\x2f\x31\x01",
}
_OTHERS = {kind: re.compile(head, re.DOTALL) for kind, head in _HEADS.items()}
_ENDINGS = {
    "HEIC": "heic heif hif heics",
    "JPEG XL": "jxl",
    "JPEG 2000": "jp2 j2k jpf jpx j2c",
    RAW: "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f",
    "Photoshop": "psd psb",
    "OpenEXR": "exr",
}
_BY_SUFFIX = {f".{ending}": kind for kind, endings in _ENDINGS.items() for ending in endings.split()}


def kind_of(name: str, head: bytes | None = None) -> str:
    """Return the kind of a file: PHOTO, OTHER, or the name of a photo format that is not supported.

    Args:
        name: name of the file.
        head: its first `HEAD_BYTES` bytes; None to decide by the name alone.
    """
    suffix = os.path.splitext(name)[1].lower()
    by_suffix = PHOTO if suffix in SUFFIXES else _BY_SUFFIX.get(suffix, OTHER)
    # Most camera raw files begin like a TIFF and contain a small one, so their suffix decides.
    if head is None or by_suffix == RAW:
        return by_suffix
    if _PHOTO.match(head):
        return PHOTO
    found = next((kind for kind, pattern in _OTHERS.items() if pattern.match(head)), None)
    return found or (OTHER if by_suffix == PHOTO else by_suffix)


def read_head(path: str | Path) -> bytes:
    """Return the first bytes of a file; empty if it cannot be read or reading would block."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(file, HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(file)


def skipped_kinds(others: Counter[str]) -> list[str]:
    """Return a line for each photo format that is not supported.

    Args:
        others: number of files by kind, other than PHOTO.
    """
    lines = []
    for kind, count in sorted(others.items()):
        if kind != OTHER and count:
            noun, pronoun = ("photo", "it") if count == 1 else ("photos", "them")
            lines.append(f"{count} {kind} {noun}: not a supported format; {remedy(kind)} {pronoun} to JPEG or PNG")
    return lines


def remedy(kind: str) -> str:
    """Return the verb for making a JPEG or PNG of a photo in a format that is not supported."""
    return "develop" if kind == RAW else "convert"
