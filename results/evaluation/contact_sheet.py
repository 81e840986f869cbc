"""Pictures side by side, labelled."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TILE = 160
GAP = 6
TEXT = 22
PAPER, INK = (255, 255, 255), (30, 30, 30)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]], headings: Sequence[str], labels: Sequence[str], note: str = ""
) -> Image.Image:
    """Return a sheet with a row of pictures for each photo.

    Args:
        rows: uint8 [height, width, 3] pictures, as many a row as there are headings.
        headings: above the columns.
        labels: one a row, above its pictures.
        note: above all; empty for none.
    """
    width = len(headings) * (TILE + GAP) + GAP
    start = 2 * TEXT if note else TEXT
    height = start + len(rows) * (TEXT + TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    draw.text((GAP, TEXT / 2), _printable(note), INK, bold, anchor="lm")
    for column, heading in enumerate(headings):
        draw.text((GAP + column * (TILE + GAP) + TILE / 2, start - TEXT / 2), heading, INK, bold, anchor="mm")
    for index, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        top = start + index * (TEXT + TILE + GAP)
        draw.text((GAP, top + TEXT / 2), _printable(label), INK, plain, anchor="lm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + TEXT))
    return sheet


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
