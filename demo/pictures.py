"""Pictures with known answers: shapes drawn on photo-like backgrounds.

The training of the demo model and the demo itself both draw here, so what the model learned is what it
will be shown. Pure: the same seed, size and photos give the same picture; nothing is read or written,
except by `shipped_photos`, which opens the two photos that the ultralytics package brings along.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LABELS = ("circle", "square", "triangle")
"""The shapes drawn, in the order of the demo model's class numbers."""

BoxPx = tuple[float, float, float, float]
LabelledBox = tuple[str, BoxPx]
Points = list[tuple[float, float]]

_SUPERSAMPLE = 3  # shapes are drawn this much larger, then reduced: smooth edges without an extra library
_MIN_SIDE, _MAX_SIDE = 0.14, 0.42  # of the picture's shorter side
_GAP_PX = 6
_MIN_CONTRAST = 70.0  # distance in RGB between a shape and the background's mean under it


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An RGB image and what is on it: `(label, (x0, y0, x1, y1))`, pixels from the upper left corner."""

    image: Image.Image
    boxes: tuple[LabelledBox, ...]


def draw_picture(
    seed: int,
    size: tuple[int, int] = (640, 480),
    *,
    photos: Sequence[Image.Image] = (),
    shapes: int | None = None,
) -> Picture:
    """A picture of `size` (width, height in px, 64 at least) with shapes that do not overlap.

    `photos`: RGB images of which pieces serve as some of the backgrounds. `shapes`: how many to draw, or
    None for 1 to 4; fewer are drawn when there is no room. Raises ValueError for a size below 64 px.
    """
    width, height = size
    if min(size) < 64:
        raise ValueError(f"a picture is at least 64 px wide and high, not {width}x{height}")
    rng = np.random.default_rng(seed)
    if photos and rng.random() < 0.25:
        image = _piece_of(photos[int(rng.integers(len(photos)))], size, rng)
    else:
        image = _landscape(size, rng)
    wanted = int(rng.integers(1, 5)) if shapes is None else shapes
    boxes: list[LabelledBox] = []
    for _ in range(wanted * 12):
        if len(boxes) == wanted:
            break
        label = LABELS[int(rng.integers(len(LABELS)))]
        outline = _outline(label, size, rng)
        box = _bounds(outline)
        if not _inside(box, size) or any(_near(box, other) for _, other in boxes):
            continue
        image = _paint(image, outline, box, rng)
        boxes.append((label, box))
    return Picture(image=image, boxes=tuple(boxes))


def shipped_photos() -> list[Image.Image]:
    """The photos under ultralytics' `assets/`, as RGB; an empty list where the package is not installed."""
    spec = importlib.util.find_spec("ultralytics")  # does not import it: that takes seconds, and torch
    if spec is None or spec.origin is None:
        return []
    found = sorted((Path(spec.origin).parent / "assets").glob("*.jpg"))
    return [Image.open(path).convert("RGB") for path in found]


def _landscape(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A smooth gradient, cloud-like noise, a few streaks and lines, and film grain."""
    width, height = size
    top, bottom = _muted(rng), _muted(rng)
    tilt = rng.uniform(-0.6, 0.6)
    rows, columns = np.mgrid[0:height, 0:width]
    share = np.clip(rows / height + tilt * (columns / width - 0.5), 0, 1)[..., None]
    pixels = top * (1 - share) + bottom * share
    for cells, strength in ((3, 34.0), (7, 20.0), (17, 10.0)):
        pixels = pixels + strength * _clouds(size, cells, rng)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = _clutter(image, rng)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.0))))
    return _grain(image, rng)


def _clouds(size: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of low frequency, (height, width, 3), about -1…1: a small grid of random colours, enlarged."""
    grey = rng.uniform(-1, 1, (cells, cells, 1))
    grid = (0.7 * grey + 0.3 * rng.uniform(-1, 1, (cells, cells, 3))) * 127 + 128
    small = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    return (np.asarray(small.resize(size, Image.Resampling.BICUBIC), dtype=np.float64) - 128) / 127


def _clutter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lines and crooked streaks: things with edges that are none of the shapes."""
    width, height = image.size
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 12))):
        corners = int(rng.integers(2, 5))
        path = [(float(rng.uniform(0, width)), float(rng.uniform(0, height))) for _ in range(corners)]
        pen.line(path, fill=_colour(rng), width=int(rng.integers(1, max(2, min(width, height) // 60))))
    return image


def _piece_of(photo: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A random piece of a photo with the wanted proportions, enlarged or reduced to `size`."""
    width, height = size
    largest = min(photo.width / width, photo.height / height)
    scale = largest * float(rng.uniform(0.5, 1.0))
    left = float(rng.uniform(0, photo.width - width * scale))
    upper = float(rng.uniform(0, photo.height - height * scale))
    piece = photo.resize(
        size, Image.Resampling.BICUBIC, (left, upper, left + width * scale, upper + height * scale)
    )
    return _grain(piece.convert("RGB"), rng)


def _grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    noisy = pixels + rng.normal(0, rng.uniform(0.5, 5.0), pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _outline(label: str, size: tuple[int, int], rng: np.random.Generator) -> Points:
    """The corners of one shape somewhere on the picture, in px; a circle is a polygon of 72 corners."""
    short = min(size)
    # Small shapes are as frequent per doubling of size as large ones.
    side = short * _MIN_SIDE * (_MAX_SIDE / _MIN_SIDE) ** float(rng.random())
    centre_x, centre_y = float(rng.uniform(0, size[0])), float(rng.uniform(0, size[1]))
    if label == "circle":
        turn, corners, radius = 0.0, 72, side / 2
    elif label == "square":
        turn, corners, radius = math.radians(45 + float(rng.uniform(-20, 20))), 4, side / math.sqrt(2)
    else:
        turn, corners, radius = float(rng.uniform(0, math.tau)), 3, side / math.sqrt(3)
    angles = [turn + math.tau * corner / corners for corner in range(corners)]
    return [(centre_x + radius * math.cos(angle), centre_y + radius * math.sin(angle)) for angle in angles]


def _bounds(outline: Points) -> BoxPx:
    across, down = [x for x, _ in outline], [y for _, y in outline]
    return min(across), min(down), max(across), max(down)


def _inside(box: BoxPx, size: tuple[int, int]) -> bool:
    return box[0] >= 2 and box[1] >= 2 and box[2] <= size[0] - 2 and box[3] <= size[1] - 2


def _near(a: BoxPx, b: BoxPx) -> bool:
    return a[0] < b[2] + _GAP_PX and b[0] < a[2] + _GAP_PX and a[1] < b[3] + _GAP_PX and b[1] < a[3] + _GAP_PX


def _paint(image: Image.Image, outline: Points, box: BoxPx, rng: np.random.Generator) -> Image.Image:
    """The picture with one shape on it: lit from one side, with or without a rim, edges smooth."""
    left, upper, right, lower = (
        math.floor(box[0]) - 1,
        math.floor(box[1]) - 1,
        math.ceil(box[2]) + 1,
        math.ceil(box[3]) + 1,
    )
    width, height = right - left, lower - upper
    under = np.asarray(image.crop((left, upper, right, lower)), dtype=np.float64)
    colour = _contrasting(under.reshape(-1, 3).mean(axis=0), rng)
    light = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-18, 18)
    fill = np.clip(np.array(colour, dtype=np.float64) + light + np.zeros((height, width, 1)), 0, 255)
    rim = np.clip(np.array(colour) * rng.uniform(0.45, 0.75), 0, 255)
    cover = Image.new("L", (width * _SUPERSAMPLE, height * _SUPERSAMPLE), 0)
    edge = Image.new("L", cover.size, 0)
    corners = [((x - left) * _SUPERSAMPLE, (y - upper) * _SUPERSAMPLE) for x, y in outline]
    ImageDraw.Draw(cover).polygon(corners, fill=255)
    if rng.random() < 0.4:
        thick = max(2, round(min(width, height) * 0.05 * _SUPERSAMPLE))
        ImageDraw.Draw(edge).line([*corners, corners[0]], fill=255, width=thick)
    area = _share(cover, (width, height))
    on_rim = np.minimum(_share(edge, (width, height)), area)
    painted = fill * (1 - on_rim) + rim * on_rim
    painted = painted + rng.normal(0, 2.0, painted.shape)
    blended = under * (1 - area) + painted * area
    image = image.copy()
    image.paste(Image.fromarray(np.clip(blended, 0, 255).astype(np.uint8)), (left, upper))
    return image


def _share(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel a supersampled mask covers, 0…1, (height, width, 1)."""
    return np.asarray(mask.resize(size, Image.Resampling.BOX), dtype=np.float64)[..., None] / 255


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A colour as landscapes have them: never far from grey."""
    return np.clip(rng.uniform(40, 215) + rng.uniform(-55, 55, 3), 0, 255)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _contrasting(background: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int]:
    """A random colour that differs from the background enough for a person to see the shape."""
    best = _colour(rng)
    for _ in range(20):
        if float(np.linalg.norm(np.array(best) - background)) >= _MIN_CONTRAST:
            break
        best = _colour(rng)
    return best
