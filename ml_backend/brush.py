"""Masks in the run-length form of Label Studio's brush. Pure.

The form is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, over the picture's RGBA values,
row by row: four equal values a pixel, 255 or 0. Bits: how many values (32), bits of a value less one (5), four sizes
less one (4 each); then for each run 1, which size (2), the run's length less one (that size), the value (8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from bridge.shapes import Size
from ml_backend.detectors import Mask

_SIZES = (3, 6, 10, 16)  # bits for the length of a run
_LONGEST = 1 << _SIZES[-1]
_CHANNELS = 4


def full_mask(mask: Mask, *, seen: Size, shown: Size) -> np.ndarray:
    """The mask over the whole picture, bool (height, width), at the size it is displayed in."""
    whole = np.zeros((seen[1], seen[0]), dtype=bool)
    height, width = mask.pixels.shape
    whole[mask.top : mask.top + height, mask.left : mask.left + width] = mask.pixels
    if seen == shown:
        return whole
    return np.asarray(Image.fromarray(whole).resize(shown, Image.Resampling.NEAREST))


def encode(pixels: np.ndarray) -> list[int]:
    """Label Studio's `rle` of a bool array (height, width)."""
    flat = np.ascontiguousarray(pixels, dtype=bool).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(np.concatenate((starts, [flat.size]))) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        left = length
        while left:
            run = min(left, _LONGEST)
            which = next(index for index, size in enumerate(_SIZES) if run <= 1 << size)
            bits.append(f"1{which:02b}{run - 1:0{_SIZES[which]}b}{value}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode(rle: Sequence[int]) -> np.ndarray:
    """The other way: a flat bool array, True where a pixel is marked. Of what `encode` writes."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    count, word = int(bits[:32], 2), int(bits[32:37], 2) + 1
    sizes = [int(bits[37 + 4 * number : 41 + 4 * number], 2) + 1 for number in range(4)]
    values = np.zeros(count, dtype=bool)
    at, filled = 53, 0
    while filled < count:
        repeated, which = bits[at] == "1", int(bits[at + 1 : at + 3], 2)
        length = int(bits[at + 3 : at + 3 + sizes[which]], 2) + 1
        at += 3 + sizes[which]
        for _ in range(1 if repeated else length):
            run = length if repeated else 1
            values[filled : filled + run] = int(bits[at : at + word], 2) > 0
            at += word
            filled += run
    return values[_CHANNELS - 1 :: _CHANNELS]
