"""Reading the state of 100,000 annotations: from a snapshot beside from the bare log. Each in a process of its own.

The store is a folder: what is measured is the reading, not a network. `python -m benchmarks.fold
make|more|fold|log|ids|snapshot FOLDER` is one of those processes."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.row import Row, less_is_better
from bridge.edges import history
from bridge.keys import Layout, LogKey
from bridge.records import format_time
from bridge.store import MemoryStore, ObjectInfo

ROOT = Path(__file__).parents[1]
ANNOTATIONS = 100_000
THINGS_AN_OBJECT = 500  # what a busy minute or a page of the baseline leaves
REGIONS = 3
LAYOUT = Layout("1.1795312801")
START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


class FolderStore(MemoryStore):
    """The verbs that reading and snapshots need, over files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def put(self, key: str, body: bytes, *, content_type: str = "") -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def get(self, key: str) -> bytes:
        return (self._folder / key).read_bytes()

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        paths = (self._folder / prefix).rglob("*") if (self._folder / prefix).is_dir() else ()
        found = sorted(str(path.relative_to(self._folder)) for path in paths if path.is_file())
        for key in found:
            if key > start_after:
                size = (self._folder / key).stat().st_size
                yield ObjectInfo(key=key, size_bytes=size, last_modified=START, md5=None)


def measure() -> list[Row]:
    """Seconds without the start of the process, seconds of a processor (which a busy machine stretches less), MiB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _process("make", folder)
        bare = _process("log", folder)
        made = _process("fold", folder)
        ids = _process("ids", folder)
        quick = _process("snapshot", folder)
        _process("more", folder)
        again = _process("fold", folder)
    assert bare["annotations"] == quick["annotations"] == ids["annotations"] == ANNOTATIONS
    what = f"state of {ANNOTATIONS:,} annotations"
    by_log, first = "from the bare log, all in memory", "making the first snapshot"
    return [
        less_is_better(what, "s", quick["seconds"], bare["seconds"], by_log),
        less_is_better("… of a processor", "s", quick["cpu_s"], bare["cpu_s"], by_log),
        less_is_better("… peak memory", "MiB", quick["peak_mib"], bare["peak_mib"], by_log),
        less_is_better("… which there are, their tasks", "s", ids["seconds"], bare["seconds"], by_log),
        less_is_better(
            "… making the snapshot", "s", made["seconds"], bare["seconds"], "reading the log once"
        ),
        less_is_better("… peak memory of that", "MiB", made["peak_mib"], bare["peak_mib"], by_log),
        less_is_better("… the next one, 1 % more", "s", again["seconds"], made["seconds"], first),
    ]


def _process(what: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.fold", what, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _lines(number: int) -> str:
    """A task and an annotation on it, as the drain writes them."""
    said = START + timedelta(seconds=number)
    at = said.isoformat()
    stamp = {"event_id": f"{number:032x}", "received_at": format_time(said), "source": "webhook"}
    times = {"created_at": format_time(said), "version": format_time(said)}
    named = {"op": "put", "id": str(number)} | times | stamp | {"event": "ANNOTATION_CREATED"}
    task = {"id": number, "created_at": at, "data": {"image": f"s3://a/{number}.jpg"}}
    annotation = _annotation(number, at) | {"task_created_at": at}
    return "".join(
        json.dumps({"kind": kind} | named | {"data": data}, separators=(",", ":")) + "\n"
        for kind, data in (("task", task), ("annotation", annotation))
    )


def _annotation(number: int, said: str) -> dict[str, Any]:
    region = {
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
    }
    return {
        "id": number,
        "task": number,
        "project": 1,
        "completed_by": number % 20,
        "created_at": said,
        "updated_at": said,
        "lead_time": 3.0 + number % 17,
        "was_cancelled": False,
        "ground_truth": False,
        "result": [
            region
            | {
                "id": f"{number}-{n}",
                "origin": "manual",
                "value": {
                    "x": n,
                    "y": number % 90,
                    "width": 10.5,
                    "height": 7.25,
                    "rectanglelabels": ["Cat"],
                },
            }
            for n in range(REGIONS)
        ],
    }


def _make(store: FolderStore, first: int, last: int) -> None:
    """The log of these things, first to last."""
    for start in range(first, last + 1, THINGS_AN_OBJECT):
        numbers = range(start, min(start + THINGS_AN_OBJECT, last + 1))
        body = "".join(map(_lines, numbers)).encode()
        position = int(START.timestamp() * 1000) + start
        store.put(LAYOUT.log(LogKey(position=position, sha=hashlib.sha256(body).hexdigest()[:16])), body)


def main(what: str, folder: str) -> None:
    """One process: `make` writes the log, `more` a little more of it, `fold` makes a snapshot of it, `log` reads it, and
    from the snapshot `ids` reads which annotations there are and who made them, `snapshot` all that is in them."""
    store, count = FolderStore(Path(folder)), 0
    began, began_cpu = time.perf_counter(), time.process_time()
    if what == "make":
        _make(store, 1, ANNOTATIONS)
    elif what == "more":
        _make(store, ANNOTATIONS + 1, ANNOTATIONS + ANNOTATIONS // 100)
    elif what == "fold":
        from workers.snapshot import Snapshot

        assert Snapshot(store, LAYOUT, beat=lambda **_: None, now=lambda: datetime.now(UTC)).run()
    else:
        with history.open_history(store, LAYOUT) as state:
            assert (state.manifest is None) == (what == "log")
            for thing in state.alive("annotation"):
                count += thing.task_id is not None if what == "ids" else bool(thing.data["result"])
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps({"seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak_mib, "annotations": count})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
