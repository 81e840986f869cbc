"""The synthetic garden: generated flower scenes, to try everything out without photos or a network."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.storage.atomic import require_empty

_SIDE = 112
_FINE = 2 * _SIDE  # scenes are painted at twice their size and averaged down

_Plane = NDArray[np.floating]  # always float32: float64 would make painting twice as slow
_Range = tuple[float, float]


def garden(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Generate flower scenes whose colors follow from shape, texture and position, but not from brightness.

    As with photos, a model must tell petals from leaves, soil and sky. The light differs between scenes, so the same
    brightness occurs in every material. Each kind of flower has a range of hues that its shape does not narrow down,
    so no model can predict all colors. Scene k depends only on `seed` and k: a larger garden begins with the smaller.

    Args:
        count: number of scenes, at least 1.
        seed: seed of the garden, at least 0.

    Returns:
        RGB photos, uint8 [count, 112, 112, 3], 0..255.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, received {count}")
    return np.stack([_scene(np.random.default_rng([seed, k])) for k in range(count)])


def write_garden(
    count: int, out: Path, seed: int = 0, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> None:
    """Write the scenes of `garden` as PNG files.

    Args:
        count: number of scenes, at least 1.
        out: new or empty folder.
        seed: seed of the garden, at least 0.
        progress: wraps the numbers of the scenes, to show progress.

    Raises:
        StorageError: the folder is not empty.
    """
    require_empty(out)
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for k in progress(range(count)):
            written.append(out / scene_name(k))
            Image.fromarray(_scene(np.random.default_rng([seed, k]))).save(written[-1])
    except BaseException:
        # An incomplete garden would make the folder unusable for the next call.
        for path in written:
            path.unlink(missing_ok=True)
        if new:
            with contextlib.suppress(OSError):  # another program has written into it
                out.rmdir()
        raise


def scene_name(k: int) -> str:
    """Return the file name of scene k."""
    return f"garden-{k:04}.png"


def _scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint one scene from back to front: sky, meadow, soil, low leaves, then stems and their flowers."""
    canvas = _Canvas(sun=math.pi * rng.uniform(0.2, 0.8))
    horizon, soil = rng.uniform(0.22, 0.58), rng.uniform(0.66, 0.86)
    _sky(canvas, rng)
    _meadow(canvas, rng, horizon)
    _soil(canvas, rng, soil)
    for _ in range(rng.integers(2, 7)):
        start = rng.uniform(0, 1), soil + rng.uniform(-0.05, 0.1)
        _leaf(canvas, rng, start, angle=rng.uniform(-2.7, -0.4), length=rng.uniform(0.15, 0.3))
    number = int(rng.integers(2, 5))
    kinds = rng.choice(len(_SPECIES), 2)
    for slot in rng.permutation(number).tolist():
        head = (slot + rng.uniform(0.2, 0.8)) / number, rng.uniform(0.2, 0.6)
        _stem(canvas, rng, head, foot=head[0] + rng.uniform(-0.1, 0.1))
        radius = rng.uniform(0.11, 0.15) + 0.18 * rng.uniform() / number
        _flower(canvas, rng, _SPECIES[rng.choice(kinds)], head, radius)
    return canvas.develop(rng.uniform(0.55, 1.4) * (1 + 0.08 * _noise(rng, 3, 3)))


class _Canvas:
    """A scene while it is painted, with separate luma and chroma, so that light and shade do not change the hue.

    `planes` is float32 [3, _FINE, _FINE]: luma 0..1, then saturation (max(R, G, B) - min(R, G, B), 0..1) times the
    cosine and the sine of the hue. Positions and lengths are fractions of the photo's side; y points down.
    """

    def __init__(self, sun: float) -> None:
        self.planes = np.zeros((3, _FINE, _FINE), np.float32)
        self.light = math.cos(sun), -math.sin(sun)

    def window(self, x: float = 0.5, y: float = 0.5, reach: float = 0.5) -> _Window:
        """Return the part of the canvas within `reach` of (x, y); by default the whole canvas."""
        top, bottom, left, right = (
            min(max(round(end * _FINE), 0), _FINE) for end in (y - reach, y + reach, x - reach, x + reach)
        )
        across = (np.arange(left, right, dtype=np.float32) + 0.5) / _FINE - x
        down = (np.arange(top, bottom, dtype=np.float32) + 0.5) / _FINE - y
        u, v = np.meshgrid(across, down)
        return _Window(self.planes[:, top:bottom, left:right], self.light, u, v)

    def develop(self, exposure: _Plane) -> NDArray[np.uint8]:
        """Turn the planes into an RGB photo, uint8 [_SIDE, _SIDE, 3]."""
        luma = np.clip(self.planes[0] * exposure, 0.02, 0.98)
        sextant = np.arctan2(self.planes[2], self.planes[1]) * (3 / math.pi)
        pure = [np.clip(np.abs((sextant + turn) % 6 - 3) - 1, 0, 1) for turn in (0, 4, 2)]
        pure_luma = 0.299 * pure[0] + 0.587 * pure[1] + 0.114 * pure[2]
        # The largest saturation in the sRGB gamut at this luma and hue.
        largest = np.minimum(luma / pure_luma, (1 - luma) / (1 - pure_luma))
        saturation = np.minimum(np.hypot(self.planes[1], self.planes[2]), largest)
        rgb = np.stack([luma + saturation * (channel - pure_luma) for channel in pure], axis=-1)
        return np.rint(255 * rgb.reshape(_SIDE, 2, _SIDE, 2, 3).mean((1, 3))).astype(np.uint8)


@dataclass(frozen=True)
class _Window:
    """A rectangle of a canvas. `u` (right) and `v` (down) are the distances of its pixels from the center."""

    planes: _Plane
    light: tuple[float, float]
    u: _Plane
    v: _Plane

    def lay(self, cover: float | _Plane, luma: float | _Plane, hue: float, saturation: float) -> None:
        """Paint with the opacity `cover`, 0..1; `hue` is in degrees."""
        turn = math.radians(hue)
        color = luma, saturation * math.cos(turn), saturation * math.sin(turn)
        for plane, value in zip(self.planes, color, strict=True):
            plane += cover * (value - plane)

    def darken(self, cover: _Plane, by: float) -> None:
        """Cast a shadow that removes the share `by`, 0..1, of the light."""
        self.planes[0] *= 1 - by * cover

    def lit(self, size: float) -> _Plane:
        """Return how much the surface of an object of that size faces the light, -1..1."""
        return np.clip((self.u * self.light[0] + self.v * self.light[1]) / size, -1, 1)

    def turned(self, angle: float) -> tuple[_Plane, _Plane]:
        """Return the distances from the center along `angle` and across it."""
        cos, sin = math.cos(angle), math.sin(angle)
        return self.u * cos + self.v * sin, self.v * cos - self.u * sin


def _cover(inside: _Plane, softness: float = 1 / _FINE) -> _Plane:
    """Return the share of each pixel that a shape covers, 0..1, from the distance inside of its outline."""
    return np.clip(inside / softness + 0.5, 0, 1)


def _noise(rng: np.random.Generator, rows: int, columns: int) -> _Plane:
    """Return smooth noise of rows x columns lumps, about normally distributed: float32 [_FINE, _FINE]."""
    lumps = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(lumps.resize((_FINE, _FINE), Image.Resampling.BICUBIC))


def _sky(canvas: _Canvas, rng: np.random.Generator) -> None:
    window = canvas.window()
    luma = rng.uniform(0.45, 0.68)
    window.lay(1, luma + 0.1 * window.v, hue=rng.uniform(206, 216), saturation=rng.uniform(0.55, 0.65))
    clouds = 0.5 * _noise(rng, 7, 3) + 0.3 * _noise(rng, 12, 6) - rng.uniform(0.6, 1.4)
    window.lay(0.8 * _cover(clouds, softness=1), luma + 0.25, hue=210, saturation=0.12)


def _meadow(canvas: _Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Paint grass: upright strokes below a gently rolling horizon."""
    window = canvas.window()
    cover = _cover(window.v + 0.5 - horizon + 0.02 * _noise(rng, 1, 5))
    blades = _noise(rng, 10, 60) + 0.7 * _noise(rng, 20, 100)
    luma = rng.uniform(0.3, 0.4) * np.clip(1 + 0.5 * blades, 0.15, 1.9)
    window.lay(cover, luma, hue=rng.uniform(88, 108), saturation=rng.uniform(0.5, 0.6))


def _soil(canvas: _Canvas, rng: np.random.Generator, top: float) -> None:
    """Paint crumbs of earth, and the shade of the grass on their upper edge."""
    window = canvas.window()
    inside = window.v + 0.5 - top + 0.015 * _noise(rng, 1, 9)
    crumbs = _noise(rng, 80, 80) + 0.5 * _noise(rng, _SIDE, _SIDE)
    luma = rng.uniform(0.22, 0.46) * np.clip(1 + 0.6 * crumbs, 0.15, 2.2)
    window.darken(_cover(inside + 0.01, softness=0.03), by=0.4)
    window.lay(_cover(inside), luma, hue=rng.uniform(18, 32), saturation=rng.uniform(0.4, 0.5))


def _leaf(canvas: _Canvas, rng: np.random.Generator, start: tuple[float, float], angle: float, length: float) -> None:
    """Paint a pointed leaf with a pale midrib and side veins, one half of it turned away from the light."""
    cos, sin = math.cos(angle), math.sin(angle)
    window = canvas.window(start[0] + cos * length / 2, start[1] + sin * length / 2, 0.55 * length)
    along, across = (distance / length for distance in window.turned(angle))
    along += 0.5
    breadth = rng.uniform(0.17, 0.26) * np.sin(math.pi * np.clip(along, 0.001, 0.999) ** 0.8) ** 0.5
    inside = np.where((along > 0) & (along < 1), (breadth - np.abs(across)) * length, -1)
    veins = 0.22 * np.cos(9 * math.pi * (along - 0.9 * np.abs(across))) ** 16
    midrib = 0.35 * np.clip(1.5 - 60 * np.abs(across), 0, 1)
    halves = math.copysign(0.15, canvas.light[1] * cos - canvas.light[0] * sin) * np.tanh(40 * across)
    luma = rng.uniform(0.25, 0.45) * (0.95 + veins + midrib + halves + 0.1 * window.lit(length))
    window.darken(_cover(inside, softness=0.02), by=0.3)
    window.lay(_cover(inside), luma, hue=rng.uniform(95, 125), saturation=rng.uniform(0.3, 0.45))


def _stem(canvas: _Canvas, rng: np.random.Generator, head: tuple[float, float], foot: float) -> None:
    """Paint a stem from a flower's head down to (foot, 1), and a leaf or two on it."""
    (x, y), window = head, canvas.window()
    fall = (window.v + (0.5 - y)) / (1 - y)
    aside = window.u + (0.5 - x) - (foot - x) * fall**2
    width = rng.uniform(0.010, 0.016)
    roundness = 1 + 0.4 * np.clip(aside * math.copysign(1 / width, canvas.light[0]), -1, 1)
    cover = _cover(np.where(fall > 0, width - np.abs(aside), -1))
    window.lay(cover, rng.uniform(0.25, 0.6) * roundness, hue=rng.uniform(88, 115), saturation=0.4)
    sides = (-1, 1) if rng.uniform() < 0.5 else (rng.choice((-1, 1)),)
    for side in sides:
        height, rise = rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.8)
        start = x + (foot - x) * height**2, y + (1 - y) * height
        _leaf(canvas, rng, start, angle=-rise if side > 0 else rise - math.pi, length=rng.uniform(0.14, 0.26))


@dataclass(frozen=True)
class _Bloom:
    """One flower's head, seen in its own tilted plane: `r` is the distance from its center in radii."""

    window: _Window
    radius: float
    r: _Plane
    angle: _Plane
    luma: float
    hue: float
    saturation: float

    def petals(self, number: int, reach: float, bluntness: float, turn: float) -> tuple[_Plane, _Plane]:
        """Return how far a ring of petals covers each pixel, and -1..1 from edge to edge of each petal."""
        across = (self.angle * (number / (2 * math.pi)) + turn) % 1 * 2 - 1
        return _cover((reach * (1 - np.abs(across) ** bluntness) - self.r) * self.radius), across

    def lay(self, cover: _Plane, light: _Plane) -> None:
        """Paint petals in the flower's color; where `light` is 1 they have its luma."""
        luma = self.luma * (light + 0.2 * self.window.lit(self.radius))
        self.window.lay(cover, luma, self.hue, self.saturation)

    def disc(self, size: float, luma: float, hue: float, saturation: float, spirals: int) -> None:
        """Paint the center: grains where two families of spirals cross, as a sunflower's seeds do."""
        inside, r = (size - self.r) * self.radius, self.r / size
        grains = np.cos(spirals * self.angle + 25 * r) * np.cos(spirals * self.angle - 25 * r)
        self.window.darken(_cover(inside, softness=0.03), by=0.5)
        self.window.lay(_cover(inside), luma * (1 - 0.4 * r**2 + 0.5 * grains), hue, saturation)


def _rose(bloom: _Bloom, rng: np.random.Generator) -> None:
    """Ring upon ring of broad round petals, each light at its rim and dark where the next ring covers it."""
    for reach in (1.0, 0.83, 0.66, 0.49, 0.32, 0.15):
        cover, across = bloom.petals(5 if reach > 0.5 else 3, reach, bluntness=5, turn=rng.uniform())
        bloom.lay(cover, 0.35 + 0.85 * (bloom.r / reach) ** 2 - 0.25 * np.abs(across) ** 6)


def _sunflower(bloom: _Bloom, rng: np.random.Generator) -> None:
    """Two rows of thin petals around a large, dark, grainy disc."""
    number = int(rng.integers(14, 20))
    for reach, light in ((1.0, 0.75), (0.9, 1.0)):
        cover, across = bloom.petals(number, reach, bluntness=2, turn=rng.uniform())
        bloom.lay(cover, light - 0.3 * np.abs(across) + 0.1 * np.cos(9 * across))
    bloom.disc(rng.uniform(0.4, 0.5), rng.uniform(0.12, 0.3), hue=25, saturation=0.5, spirals=14)


def _daisy(bloom: _Bloom, rng: np.random.Generator) -> None:
    """A row of blunt petals around a small button."""
    cover, across = bloom.petals(int(rng.integers(9, 13)), reach=1, bluntness=6, turn=rng.uniform())
    bloom.lay(cover, 0.9 - 0.45 * np.abs(across) ** 4 + 0.15 * bloom.r)
    bloom.disc(0.28, rng.uniform(0.35, 0.7), hue=46, saturation=0.8, spirals=5)


def _bellflower(bloom: _Bloom, rng: np.random.Generator) -> None:
    """A star of five pointed petals, each folded along a crease, paling toward the throat."""
    cover, across = bloom.petals(5, reach=1.1, bluntness=1.6, turn=rng.uniform())
    crease = 0.4 * np.clip(1 - 7 * np.abs(across) * bloom.r, 0, 1)
    bloom.lay(cover, 1.25 - 0.5 * bloom.r - crease + 0.15 * np.sign(across))
    bloom.disc(0.14, 0.75, hue=60, saturation=0.5, spirals=3)


@dataclass(frozen=True)
class _Species:
    """A kind of flower: its form, and the ranges its petals' color is drawn from."""

    form: Callable[[_Bloom, np.random.Generator], None]
    luma: _Range
    hue: _Range
    saturation: _Range


_SPECIES = (
    _Species(_rose, luma=(0.35, 0.5), hue=(338, 360), saturation=(0.45, 0.65)),
    _Species(_sunflower, luma=(0.6, 0.75), hue=(42, 54), saturation=(0.5, 0.7)),
    _Species(_daisy, luma=(0.75, 0.9), hue=(50, 60), saturation=(0.0, 0.1)),
    _Species(_bellflower, luma=(0.25, 0.4), hue=(242, 268), saturation=(0.45, 0.65)),
)


def _flower(
    canvas: _Canvas, rng: np.random.Generator, species: _Species, head: tuple[float, float], radius: float
) -> None:
    """Paint a flower's head, turned a little out of the picture's plane, and the shadow below it."""
    window = canvas.window(*head, reach=1.3 * radius)
    right, down = (distance / radius for distance in window.turned(rng.uniform(-0.5, 0.5)))
    down /= rng.uniform(0.75, 1.0)
    window.darken(_cover((0.95 - np.hypot(right, down - 0.15)) * radius, softness=0.04), by=0.25)
    color = (rng.uniform(*bounds) for bounds in (species.luma, species.hue, species.saturation))
    species.form(_Bloom(window, radius, np.hypot(right, down), np.arctan2(down, right), *color), rng)
