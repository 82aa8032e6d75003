"""How far an engine's raw outputs are from torch's, for the same pictures. Pure.

Compared is what regions are made of: the places and scores of the boxes that torch finds likeliest, and what belongs
to them (mask coefficients, key points, angles). Boxes that nobody would ever see do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BOXES = 100  # the likeliest of a picture
_SEEN = 0.05  # every box with at least this score is compared too
_MASKS = 0.5  # of the largest value of a mask prototype: they are summed up and cut at 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`px`: largest distance of two edges, in px of the network's input. `score`: of two scores, 0…1. `rest`: of all
    other values, as a share of torch's largest."""

    px: float = 0.0
    score: float = 0.0
    rest: float = 0.0

    def within(self, tolerance_px: float) -> bool:
        """`tolerance_px`: for edges; scores may differ by as many hundredths times two, the rest by as many times
        five. No number at all (NaN) is never within."""
        return (
            self.px <= tolerance_px and self.score <= tolerance_px * 0.02 and self.rest <= tolerance_px * 0.05
        )

    def __str__(self) -> str:
        return f"{self.px:.3g} px, score {self.score:.2g}, other values {self.rest:.2g}"


def largest(differences: Sequence[Difference]) -> Difference:
    return Difference(
        px=_max([one.px for one in differences]),
        score=_max([one.score for one in differences]),
        rest=_max([one.rest for one in differences]),
    )


def class_scores_differ(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Of two lists of class scores."""
    return Difference(score=_max([_apart(ours, theirs)]))


def boxes_differ(
    ours: np.ndarray, theirs: np.ndarray, *, classes: int, points: tuple[int, int] | None = None
) -> Difference:
    """`ours`, `theirs` (torch's): (4 + classes + more, boxes), rows x, y, width, height, scores, more.

    `points`: number of key points and values a point, of which the first two are px."""
    if ours.shape != theirs.shape:
        return Difference(px=float("inf"))
    best = theirs[4 : 4 + classes].max(axis=0)
    chosen = np.union1d(np.argsort(best)[-_BOXES:], np.flatnonzero(best >= _SEEN))
    a, b = ours[:, chosen], theirs[:, chosen]
    # A network's own scores can be so close to 0 that no box is ever shown: there only scores count.
    shown = best[chosen] >= _SEEN
    if shown.any():
        a_px, b_px = a[:, shown], b[:, shown]
    else:
        a_px, b_px = a, b
    # x and y are the middle: an edge can be half the width's difference further off.
    px = np.abs(a_px[:2] - b_px[:2]) + np.abs(a_px[2:4] - b_px[2:4]) / 2
    more_a, more_b = a_px[4 + classes :], b_px[4 + classes :]
    rest = [0.0]
    edges = [float(px.max())]
    if points is not None and len(more_a):
        at = np.arange(len(more_a)) % points[1]
        edges.append(_apart(more_a[at < 2], more_b[at < 2]))
        rest.append(_apart(more_a[at >= 2], more_b[at >= 2]))
    elif len(more_a):
        rest.append(_apart(more_a, more_b) / max(1e-6, float(np.abs(more_b).max())))
    return Difference(px=_max(edges), score=_apart(a[4 : 4 + classes], b[4 : 4 + classes]), rest=_max(rest))


def rows_differ(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Of networks that suppress by themselves: rows x0, y0, x1, y1, score, class, more, in any order.

    Every box of torch's that somebody could see is compared with the nearest of its class."""
    px, score = [0.0], [0.0]
    for row in theirs[theirs[:, 4] >= 2 * _SEEN]:
        same = ours[ours[:, 5] == row[5]]
        if not len(same):
            return Difference(px=float("inf"))
        near = same[np.abs(same[:, :4] - row[:4]).max(axis=1).argmin()]
        px.append(float(np.abs(near[:4] - row[:4]).max()))
        score.append(abs(float(near[4] - row[4])))
    return Difference(px=_max(px), score=_max(score))


def prototypes_differ(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Of a segmentation network's second output."""
    if ours.shape != theirs.shape:
        return Difference(rest=float("inf"))
    return Difference(rest=_apart(ours, theirs) / max(1e-6, float(np.abs(theirs).max())) * _MASKS)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max()) if a.size else 0.0


def _max(values: Sequence[float]) -> float:
    """NaN where any is NaN; Python's max would depend on the order."""
    return float(np.max(values)) if values else 0.0
