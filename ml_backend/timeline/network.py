"""The small network that is trained: features of frames in, a probability for each label and frame out. The rim of torch.

Frames are looked at `sequence_size` at a time. Where a sequence begins is arbitrary, and at its ends it sees one side only:
training goes through two ways of cutting by turns, and a prediction is the mean of both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_backend.attributes import Learning
from ml_backend.timeline.classifier import Classifier
from ml_backend.timeline.stretches import Agreement, agreement

MOST_S = 300.0  # a training ends by then, with the best it has found
_SEED = 7
_BATCH = 64  # sequences
_LOOK_EVERY = 5  # epochs, to see how far it is
_IN_A_ROW = 2  # looks that reach a threshold: one alone may be luck
_RATE = 0.005
_DECAY = 0.001
_DROPOUT = 0.2
_PART = 8192  # frames in single precision at once
_CLIP = 5.0  # of features, in standard deviations: a frame like no other must not drown everything


@dataclass(frozen=True, kw_only=True)
class Example:
    """One annotated video. `values`: features (steps, features); `truth`: bool (steps, labels)."""

    values: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Trained:
    """`agreement` with the examples it was trained on; `why`: what ended the training."""

    classifier: Classifier
    agreement: Agreement
    epochs: int
    seconds: float
    why: str


def train(
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    learning: Learning,
    weights: str,
    imgsz: int | None,
    most_s: float = MOST_S,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """The same examples give the same classifier on the same machine, unless time ends it. At least one example.

    On a thread of its own, which keeps to one core: with more, such small steps take longer, and predictions wait."""
    with ThreadPoolExecutor(1, thread_name_prefix="timeline-network") as alone:
        return alone.submit(_train, examples, labels, learning, weights, imgsz, most_s, clock).result()


def _train(
    examples: Sequence[Example],
    labels: Sequence[str],
    learning: Learning,
    weights: str,
    imgsz: int | None,
    most_s: float,
    clock: Callable[[], float],
) -> Trained:
    import torch

    began = clock()
    _keep_to_one_core()
    values = torch.from_numpy(np.concatenate([one.values for one in examples]))
    truth = torch.from_numpy(np.concatenate([one.truth for one in examples]).astype(np.float32))
    mean, spread = _scale_of(values)
    values = _scaled(values, mean, spread)
    cuts = [_cut([len(one.values) for one in examples], learning.sequence_size, by) for by in (0, 1)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = _network(values.shape[1], len(labels), learning.hidden_size, learning.num_layers)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        best, best_state, why = Agreement(f1=-1.0, accuracy=-1.0), network.state_dict(), "epochs"
        epoch = row = 0
        while epoch < learning.epochs:
            late = clock() - began > most_s
            if not late:
                _one_epoch(network, optimizer, values, truth, cuts[epoch % 2])
                epoch += 1
            if late or epoch % _LOOK_EVERY == 0 or epoch == learning.epochs:
                reached = agreement(_answers(network, values, cuts), truth.numpy() > 0.5)
                if (reached.f1, reached.accuracy) > (best.f1, best.accuracy):
                    best = reached
                    best_state = {name: part.clone() for name, part in network.state_dict().items()}
                good = reached.f1 >= learning.f1_threshold or reached.accuracy >= learning.accuracy_threshold
                row = row + 1 if good else 0
                if row == _IN_A_ROW:
                    why = "threshold"
                    break
            if late:
                why = "time"
                break
    arrays = {name: part.numpy().astype(np.float32) for name, part in best_state.items()}
    return Trained(
        classifier=Classifier(
            labels=tuple(labels),
            weights=weights,
            features=values.shape[1],
            imgsz=imgsz,
            sequence_size=learning.sequence_size,
            hidden_size=learning.hidden_size,
            num_layers=learning.num_layers,
            arrays=arrays | {"mean": mean.numpy(), "spread": spread.numpy()},
        ),
        agreement=best,
        epochs=epoch,
        seconds=clock() - began,
        why=why,
    )


def probabilities(classifier: Classifier, values: np.ndarray) -> np.ndarray:
    """For features (steps, features): (steps, labels), 0…1. Raises RuntimeError or KeyError for arrays that do not fit."""
    import torch

    arrays = {name: torch.from_numpy(np.asarray(part)) for name, part in classifier.arrays.items()}
    given = _scaled(torch.from_numpy(values), arrays.pop("mean"), arrays.pop("spread"))
    network = _network(
        classifier.features, len(classifier.labels), classifier.hidden_size, classifier.num_layers
    )
    network.load_state_dict(arrays)
    cuts = [_cut([len(values)], classifier.sequence_size, by) for by in (0, 1)]
    return _answers(network, given, cuts)


def _scale_of(values: Any) -> tuple[Any, Any]:
    """Mean and spread of (frames, features) in half precision, of which no copy in single precision is made at once."""
    import torch

    mean = sum(part.float().sum(0) for part in values.split(_PART)) / len(values)
    square = sum(((part.float() - mean) ** 2).sum(0) for part in values.split(_PART)) / len(values)
    spread = square.sqrt()
    # Features that hardly change in the examples tell nothing, and must not when they change a little elsewhere.
    return mean, torch.clamp(spread, min=float(spread.mean()) / 10 + 1e-6)


def _scaled(values: Any, mean: Any, spread: Any) -> Any:
    """In half precision again."""
    import torch

    parts = values.split(_PART)
    return torch.cat([((part.float() - mean) / spread).clamp(-_CLIP, _CLIP).half() for part in parts])


def _keep_to_one_core() -> None:
    """This thread alone. torch lets threads that come later begin with what was set last: another one sets it back."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    back = threading.Thread(target=torch.set_num_threads, args=(usual,))
    back.start()
    back.join()


def _network(features: int, labels: int, hidden: int, layers: int) -> Any:
    from torch import nn

    return nn.ModuleDict(
        {
            "inner": nn.Sequential(
                nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(_DROPOUT)
            ),
            "lstm": nn.LSTM(hidden, hidden, layers, batch_first=True, bidirectional=True),
            "outer": nn.Linear(2 * hidden, labels),
        }
    )


def _logits(network: Any, values: Any) -> Any:
    seen, _ = network["lstm"](network["inner"](values))
    return network["outer"](seen)


def _cut(lengths: Sequence[int], size: int, by: int) -> np.ndarray:
    """Rows of places (sequences, size) in the videos set end to end, -1 behind a video's end. `by` 1 cuts at the other
    sequences' middles."""
    rows, first = [], 0
    for length in lengths:
        starts = range(-(size // 2) if by else 0, length, size)
        for start in starts:
            places = np.arange(max(start, 0), min(start + size, length))
            rows.append(np.pad(places + first, (0, size - len(places)), constant_values=-1))
        first += length
    return np.stack([row for row in rows if row[0] >= 0])


def _batches(network: Any, values: Any, places: Any) -> Iterator[tuple[Any, Any]]:
    """(logits, places) of the sequences, so many at a time; what lies behind a video's end is zero going in."""
    for rows in places.split(_BATCH):
        there = rows >= 0
        given = values[rows.clamp(min=0)].float() * there[..., None]
        yield _logits(network, given), rows


def _one_epoch(network: Any, optimizer: Any, values: Any, truth: Any, cut: np.ndarray) -> None:
    import torch

    network.train()
    order = torch.randperm(len(cut))
    for logits, rows in _batches(network, values, torch.from_numpy(cut)[order]):
        there = rows >= 0
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[there], truth[rows[there]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def _answers(network: Any, values: Any, cuts: Sequence[np.ndarray]) -> np.ndarray:
    import torch

    network.eval()
    total = torch.zeros(len(values), network["outer"].out_features)
    with torch.inference_mode():
        for cut in cuts:
            for logits, rows in _batches(network, values, torch.from_numpy(cut)):
                there = rows >= 0
                total[rows[there]] += logits[there].sigmoid()
    found: np.ndarray = (total / len(cuts)).numpy()
    return found
