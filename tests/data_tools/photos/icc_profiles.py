"""ICC profiles, version 2, made from the published colorants of color spaces, and pixels in these spaces.

The pixels are converted by the published formulas. Nothing here shares code with huetune.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

Pixels = NDArray[Any]
D50 = (63190, 65536, 54061)
"""X, Y, Z of white, times 65536."""
SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
"""X, Y, Z under D50 of red, green and blue."""
SPACES = {
    "Display P3": (np.array([[0.51512, 0.2412, -0.00105], [0.29198, 0.69225, 0.04189], [0.1571, 0.06657, 0.78407]]), 0),
    "Adobe RGB": (
        np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]]),
        2.2,
    ),
    "ProPhoto": (np.array([[0.79767, 0.28804, 0.0], [0.13519, 0.71188, 0.0], [0.03134, 0.00009, 0.82491]]), 1.8),
    "linear": (SRGB, 1.0),
    "gamma 2.2": (SRGB, 2.2),
}
"""Colorants and gamma of each space; gamma 0 stands for the curve of sRGB."""


def decoded_by(gamma: float, values: Pixels) -> Pixels:
    """Return the linear light of pixel values, both 0..1."""
    return values**gamma if gamma else np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded_by(gamma: float, light: Pixels) -> Pixels:
    """Return the pixel values of linear light, both 0..1."""
    light = np.clip(light, 0, 1)
    return (
        light ** (1 / gamma)
        if gamma
        else np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    )


def converted(photo: Pixels, colorants: Pixels, gamma: float) -> Pixels:
    """Return an sRGB photo, uint8 [..., 3], in another color space."""
    light = decoded_by(0, photo / 255) @ SRGB @ np.linalg.inv(colorants)
    return np.rint(encoded_by(gamma, light) * 255).astype(np.uint8)


def profile(parts: dict[bytes, bytes], space: bytes = b"RGB ", kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """Return a profile made of the given tags."""
    start = 132 + 12 * len(parts)
    table, body = struct.pack(">I", len(parts)), b""
    for name, part in parts.items():
        table += name + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x", start + len(body), 0x02100000, kind, space, pcs, b"acsp", 63190, 65536, 54061
    )
    return head + table + body


def curve(gamma: float) -> bytes:
    """Return the tag of a transfer curve."""
    if gamma:
        return struct.pack(">4s4xIHxx", b"curv", 1, round(gamma * 256))
    steps = np.rint(decoded_by(0, np.linspace(0, 1, 1024)) * 65535).astype(">u2").tobytes()
    return struct.pack(">4s4xI", b"curv", 1024) + steps


def rgb_profile(colorants: Pixels, gamma: float) -> bytes:
    parts = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", *D50)}
    for letter, column in zip("rgb", colorants, strict=True):
        parts[f"{letter}XYZ".encode()] = struct.pack(">4s4x3i", b"XYZ ", *np.rint(column * 65536).astype(int))
        parts[f"{letter}TRC".encode()] = curve(gamma)
    return profile(parts)


def gray_profile(gamma: float) -> bytes:
    white = struct.pack(">4s4x3i", b"XYZ ", *D50)
    return profile({b"wtpt": white, b"kTRC": curve(gamma)}, b"GRAY")


def cmyk_profile() -> bytes:
    """Return the profile of a press whose inks multiply and whose black has a third of the light of white.

    It contains a table of the 16 corners in Lab.
    """
    absorbed = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    corners = np.array(list(np.ndindex(2, 2, 2, 2)))
    light = np.prod(1 - corners[..., None] * absorbed, axis=1)
    lab = rgb2lab((85 + 170 * light) / 255) * [2.55, 1, 1] + [0, 128, 128]
    grid = np.rint(np.clip(lab, 0, 255)).astype(np.uint8).tobytes()
    ramp, matrix = bytes(range(256)), (np.eye(3).ravel() * 65536).astype(int)
    table = struct.pack(">4s4x4B9i", b"mft1", 4, 3, 2, 0, *matrix) + ramp * 4 + grid + ramp * 3
    white = struct.pack(">4s4x3i", b"XYZ ", *D50)
    return profile({b"wtpt": white, b"A2B0": table, b"A2B1": table}, b"CMYK", b"prtr", b"Lab ")
