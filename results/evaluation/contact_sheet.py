"""Draws contact sheets: labeled pictures side by side, a row for each photo."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TILE, GAP, LINE = 160, 6, 22
"""Side of a picture, distance between pictures, and height of a line of text, in pixels."""
BACKGROUND, TEXT_COLOR = (255, 255, 255), (30, 30, 30)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]], headings: Sequence[str], labels: Sequence[str], note: str = ""
) -> Image.Image:
    """Return a contact sheet with a row of pictures for each photo.

    Args:
        rows: pictures of each row, uint8 [height, width, 3]; each row has one picture per heading.
        headings: texts above the columns.
        labels: a text above the pictures of each row.
        note: text at the top of the sheet; empty for none.
    """
    width = len(headings) * (TILE + GAP) + GAP
    start = 2 * LINE if note else LINE
    height = start + len(rows) * (LINE + TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    draw.text((GAP, LINE / 2), _printable(note), TEXT_COLOR, bold, anchor="lm")
    for column, heading in enumerate(headings):
        center = GAP + column * (TILE + GAP) + TILE / 2
        draw.text((center, start - LINE / 2), heading, TEXT_COLOR, bold, anchor="mm")
    for index, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        top = start + index * (LINE + TILE + GAP)
        draw.text((GAP, top + LINE / 2), _printable(label), TEXT_COLOR, plain, anchor="lm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + LINE))
    return sheet


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
