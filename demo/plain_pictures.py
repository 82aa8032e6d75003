"""Plain pictures with exactly known outlines: discs, bars and arrows in one colour on a smooth background. Pure.

What the small models for the tests are trained on and measured with. A bar has an angle (oriented boxes), an arrow has
three points that can be told apart (key points), and every shape has an outline (masks, polygons).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("disc", "bar", "arrow")
"""In the order of the models' class numbers."""
POINTS = ("tip", "left", "right")
"""An arrow's points, in the order of the pose model's."""

Point = tuple[float, float]
_SUPERSAMPLE = 4


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape: its outline in px. A bar's four corners go round from one end; an arrow's three are POINTS."""

    name: str
    outline: tuple[Point, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in px."""
        across, down = [x for x, _ in self.outline], [y for _, y in self.outline]
        return min(across), min(down), max(across), max(down)


@dataclass(frozen=True, kw_only=True)
class PlainPicture:
    image: Image.Image
    shapes: tuple[Shape, ...]


def draw_plain(seed: int, side: int = 128, *, names: tuple[str, ...] = SHAPES, most: int = 2) -> PlainPicture:
    """A square RGB picture of `side` px with one to `most` shapes that do not overlap."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), _shade(rng, 20, 110))
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(1, most + 1))):
        for _ in range(30):
            shape = _shape(names[int(rng.integers(len(names)))], side, rng)
            if all(_apart(shape, other) for other in shapes):
                image = paint(image, shape, _shade(rng, 150, 255))
                shapes.append(shape)
                break
    return PlainPicture(image=image, shapes=tuple(shapes))


def paint(image: Image.Image, shape: Shape, colour: tuple[int, int, int]) -> Image.Image:
    """The picture with one shape on it, edges smooth."""
    large = Image.new("L", (image.width * _SUPERSAMPLE, image.height * _SUPERSAMPLE), 0)
    ImageDraw.Draw(large).polygon([(x * _SUPERSAMPLE, y * _SUPERSAMPLE) for x, y in shape.outline], fill=255)
    cover = large.resize(image.size, Image.Resampling.BOX)
    return Image.composite(Image.new("RGB", image.size, colour), image, cover)


def outline_of(name: str, centre: Point, length: float, turn: float) -> tuple[Point, ...]:
    """The corners in px of a shape of `length` px, turned by `turn` radians, clockwise as seen."""
    if name == "disc":
        around: list[Point] = [
            (length / 2 * math.cos(math.tau * step / 48), length / 2 * math.sin(math.tau * step / 48))
            for step in range(48)
        ]
    elif name == "bar":
        half, thick = length / 2, length / 6
        around = [(-half, -thick), (half, -thick), (half, thick), (-half, thick)]
    else:
        around = [(length / 2, 0.0), (-length / 2, -length / 3), (-length / 2, length / 3)]
    cosine, sine = math.cos(turn), math.sin(turn)
    return tuple((centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine) for x, y in around)


def _shape(name: str, side: int, rng: np.random.Generator) -> Shape:
    length = side * float(rng.uniform(0.3, 0.55))
    room = length / 2 + 2
    centre = float(rng.uniform(room, side - room)), float(rng.uniform(room, side - room))
    return Shape(name=name, outline=outline_of(name, centre, length, float(rng.uniform(0, math.tau))))


def _apart(a: Shape, b: Shape) -> bool:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.box, b.box
    return ax1 + 3 < bx0 or bx1 + 3 < ax0 or ay1 + 3 < by0 or by1 + 3 < ay0


def _shade(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return red, green, blue
