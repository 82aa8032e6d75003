"""Masks in the run-length form of Label Studio's brush. Pure.

The form is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, over the picture's RGBA values,
row by row: four equal values a pixel, 255 or 0. Bits: how many values (32), bits of a value less one (5), four sizes
less one (4 each); then for each run 1, which size (2), the run's length less one (that size), the value (8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Marked:
    """The marked pixels of a picture `width` px wide, counted row by row: stretches from `starts` up to `ends`, which are not
    in them. A photograph's mask takes a few kB so, instead of megabytes."""

    width: int
    starts: np.ndarray
    ends: np.ndarray

    @property
    def area_px(self) -> int:
        return int((self.ends - self.starts).sum())

    def holds(self, x: int, y: int) -> bool:
        """Whether a pixel of the picture is marked."""
        at = y * self.width + x
        place = int(np.searchsorted(self.starts, at, side="right")) - 1
        return place >= 0 and at < int(self.ends[place])

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and lower edge in px round all marked pixels, of which there must be one."""
        top, lower = int(self.starts[0]) // self.width, (int(self.ends[-1]) - 1) // self.width + 1
        in_one_row = self.starts // self.width == (self.ends - 1) // self.width
        if not in_one_row.all():
            return 0, top, self.width, lower
        left, right = int((self.starts % self.width).min()), int(((self.ends - 1) % self.width).max()) + 1
        return left, top, right, lower


def decode(rle: Sequence[int], *, width: int) -> Marked:
    """The other way. Of what `encode` writes: every run repeats one value."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    count, word = int(bits[:32], 2), int(bits[32:37], 2) + 1
    sizes = [int(bits[37 + 4 * number : 41 + 4 * number], 2) + 1 for number in range(4)]
    stretches: list[list[int]] = []
    at, filled = 53, 0
    while filled < count:
        which = sizes[int(bits[at + 1 : at + 3], 2)]
        length = int(bits[at + 3 : at + 3 + which], 2) + 1
        at += 3 + which
        if int(bits[at : at + word], 2):
            if stretches and stretches[-1][1] == filled:
                stretches[-1][1] = filled + length  # one run was too long for the form
            else:
                stretches.append([filled, filled + length])
        at += word
        filled += length
    found = np.array(stretches, dtype=np.int64).reshape(-1, 2) // _CHANNELS
    return Marked(width, found[:, 0], found[:, 1])
