"""Bytes of an image file -> what a browser would show, as RGB. Pure but for Pillow's own switches.

Accepts JPEG, PNG, WebP, TIFF, BMP, GIF (first frame), AVIF and JPEG 2000: what browsers and cameras write. Other
parsers of Pillow stay closed, since the bytes come from anyone who can add a task.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from ml_backend.problems import TaskProblem

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000")
LARGEST_SIDE_PX = (
    2560  # larger pictures are reduced to this: no model here looks at more, and memory is finite
)
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, kw_only=True)
class LoadedImage:
    """An RGB image, perhaps reduced, and the size at which Label Studio displays it, in px."""

    image: Image.Image
    width: int
    height: int


def decode(body: bytes, *, max_pixels: int, what: str) -> LoadedImage:
    """Raises TaskProblem naming `what`: not an image, truncated, or of more than `max_pixels` pixels.

    The size is read from the header, before any pixel is unpacked."""
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
    try:
        opened.load()
        upright = _upright(opened)
        shown = _to_rgb(upright)
    except Exception as error:
        # Damaged files make Pillow's decoders raise almost anything: OSError, SyntaxError, struct.error, …
        raise TaskProblem("undecodable", f"{what} is damaged or cut off: {error}") from error
    width, height = shown.size
    if max(shown.size) > LARGEST_SIDE_PX:
        shown.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX), Image.Resampling.BOX)
    return LoadedImage(image=shown, width=width, height=height)


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
    if isinstance(error, Image.UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return str(error)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, as browsers show it; an unreadable EXIF block is left out."""
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
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits. 0…65535 becomes 0…255, as browsers do; other ranges are stretched to what is there.

    Image.convert would cut off everything above 255: white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high <= 65535:
        scaled = values / 257
    elif high > low:
        scaled = (values - low) * (255 / (high - low))
    else:
        scaled = np.zeros_like(values)
    return Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))
