"""Bytes of an image file -> what a browser would show, as RGB. Pure but for Pillow's own switches.

Accepts JPEG, PNG, WebP, TIFF, BMP, GIF (first frame), AVIF and JPEG 2000: what browsers and cameras write. Other
parsers of Pillow stay closed, since the bytes come from anyone who can add a task.
"""

from __future__ import annotations

import ctypes
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from ml_backend.problems import TaskProblem, is_want_of_memory

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000")
LARGEST_SIDE_PX = (
    2560  # larger pictures are reduced to this: no model here looks at more, and memory is finite
)
Reducible = Callable[[int, int], int]
"""A picture's width and height in px, before it is turned upright -> by what whole number both may be divided without
the models seeing less."""
_HALVES = (8, 4, 2)  # by what libjpeg can divide while it unpacks
_AT_ONCE_PIXELS = 150_000_000  # unpacked side by side, of up to 9 bytes each; a larger picture goes alone
_LARGE_PIXELS = 20_000_000  # its memory goes back to the system, which takes milliseconds
_ROWS = 256  # converted at a time, where numbers need several times the memory of the picture
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, kw_only=True)
class LoadedImage:
    """An RGB image, perhaps reduced, and the size at which Label Studio displays it, in px."""

    image: Image.Image
    width: int
    height: int


def decode(body: bytes, *, max_pixels: int, what: str, reducible: Reducible | None = None) -> LoadedImage:
    """Raises TaskProblem naming `what`: not an image, truncated, or of more than `max_pixels` pixels.

    The size is read from the header, before any pixel is unpacked. A JPEG of which `reducible` says that less will do
    is unpacked at a half, a quarter or an eighth of its size, which takes a fraction of the time."""
    # Pillow's own limit would only warn, at another number than ours.
    Image.MAX_IMAGE_PIXELS = None
    try:
        # `formats` that this Pillow was built without are ignored by it.
        opened = Image.open(io.BytesIO(body), formats=[name for name in FORMATS if name in _registered()])
    except Exception as error:
        raise TaskProblem("undecodable", f"{what} is not a readable image: {_kind(body, error)}") from error
    pixels = opened.width * opened.height
    if pixels > max_pixels or not pixels:
        raise TaskProblem(
            "too_large",
            f"{what} has {opened.width}x{opened.height} pixels; {max_pixels / 1e6:g} million at most",
            hint="reduce it, or raise IMAGE_MAX_MEGAPIXELS",
        )
    smaller = 1 if reducible is None else _unpack_smaller(opened, reducible(*opened.size))
    pixels //= smaller**2
    with _room.for_pixels(pixels):
        unpacked = [opened]
        del opened  # so that its pixels are free when they are given back
        found = _unpacked(unpacked, smaller, what)
        if pixels > _LARGE_PIXELS:
            _give_back_memory()
    return found


def _unpacked(opened: list[Image.Image], smaller: int, what: str) -> LoadedImage:
    """`opened`: one, which is taken out."""
    image = opened.pop()
    try:
        image.load()
        shown = _to_rgb(_upright(image))
    except Exception as error:
        if is_want_of_memory(error):
            raise TaskProblem(
                "too_large",
                f"{what}: there is no memory for its {image.width}x{image.height} pixels",
                hint="give the ML backend more, or lower IMAGE_MAX_MEGAPIXELS",
                passing=True,
            ) from error
        # Damaged files make Pillow's decoders raise almost anything: OSError, SyntaxError, struct.error, …
        raise TaskProblem("undecodable", f"{what} is damaged or cut off: {error}") from error
    width, height = shown.width * smaller, shown.height * smaller
    if max(shown.size) > LARGEST_SIDE_PX:
        shown.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX), Image.Resampling.BOX)
    return LoadedImage(image=shown, width=width, height=height)


def _give_back_memory() -> None:
    """glibc keeps what a thread has freed for that thread: a large picture's worth for each. Elsewhere does nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class _Room:
    """Bounds the memory of pictures being unpacked, whoever asks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def for_pixels(self, pixels: int) -> Iterator[None]:
        """Waits until there is room; for more than there ever is, until nobody else is there."""
        wanted = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + wanted <= self._most)
            self._taken += wanted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()


_room = _Room(_AT_ONCE_PIXELS)


def _unpack_smaller(opened: Image.Image, most: int) -> int:
    """By what it will be divided: only by what leaves no rest, so that every pixel stays where it is."""
    if opened.format not in ("JPEG", "MPO"):
        return 1
    width, height = opened.size
    number = next((one for one in _HALVES if one <= most and not width % one and not height % one), 1)
    if number > 1:
        opened.draft(None, (width // number, height // number))
    return width // opened.width


def _registered() -> frozenset[str]:
    Image.init()
    return frozenset(Image.OPEN)


def _kind(body: bytes, error: Exception) -> str:
    """What came instead of an image, in words."""
    start = body[:200].lstrip().lower()
    if not body:
        return "it is empty"
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page came instead, perhaps a login page"
    if start.startswith((b"{", b"[")):
        return "JSON came instead"
    # ImportError: ultralytics puts itself before Image.open, and then asks for a HEIF reader.
    if isinstance(error, Image.UnidentifiedImageError | ImportError):
        return f"none of {', '.join(FORMATS)}"
    return str(error)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as browsers show it: as its EXIF orientation says, but not XMP's, and no WebP (looked at in Chromium 156). An
    unreadable EXIF block is left out."""
    if image.format == "WEBP":
        return image
    for name in ("xmp", "XML:com.adobe.xmp"):  # where Pillow looks when EXIF says nothing
        image.info.pop(name, None)
    try:
        ImageOps.exif_transpose(image, in_place=True)  # without a copy of those that are upright
    except Exception:
        pass
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits: 16 bits scaled down, transparency on white, grey and CMYK converted."""
    if image.mode in _DEEP:
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")
        shown = Image.new("RGB", over.size, (255, 255, 255))
        shown.paste(over, mask=over.getchannel("A"))
        return shown
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits. 0…65535 becomes 0…255, as browsers do; other ranges are stretched to what is there.

    Image.convert would cut off everything above 255: white."""
    low, high = float("inf"), float("-inf")
    for _, values in _strips(image):
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, factor = 0.0, 1 / 257
    else:
        factor = 255 / (high - low) if high > low else 0.0
    shown = Image.new("L", image.size)
    for top, values in _strips(image):
        scaled = np.clip((values - low) * factor + 0.5, 0, 255).astype(np.uint8)
        shown.paste(Image.fromarray(scaled), (0, top))
    return shown


def _strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """From top to bottom: the first row, and some rows' values as float64."""
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        yield top, np.nan_to_num(np.asarray(rows, dtype=np.float64), posinf=0, neginf=0)
