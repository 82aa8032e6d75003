"""Reading the state of 100,000 annotations: from a snapshot beside from the bare log. Each in a process of its own.

The store is a folder: what is measured is the reading, not a network. `python -m benchmarks.fold make|snapshot|log FOLDER`
is one of those processes."""

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
from bridge.records import Record, Stamp, put
from bridge.store import MemoryStore, ObjectInfo

ROOT = Path(__file__).parents[1]
ANNOTATIONS = 100_000
RECORDS_AN_OBJECT = 20
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
    """Seconds, without the start of the process, and its MiB at the peak."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _process("make", folder)
        bare = _process("log", folder)
        made = _process("fold", folder)
        quick = _process("snapshot", folder)
    other_is = "from the bare log, all in memory"
    assert bare["annotations"] == quick["annotations"] == ANNOTATIONS
    return [
        less_is_better(
            f"state of {ANNOTATIONS:,} annotations", "s", quick["seconds"], bare["seconds"], other_is
        ),
        less_is_better("… peak memory", "MiB", quick["peak_mib"], bare["peak_mib"], other_is),
        less_is_better(
            "… making the snapshot", "s", made["seconds"], bare["seconds"], "reading the log once"
        ),
        less_is_better("… peak memory of that", "MiB", made["peak_mib"], bare["peak_mib"], other_is),
    ]


def _process(what: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.fold", what, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _records() -> Iterator[Record]:
    for number in range(1, ANNOTATIONS + 1):
        stamp = Stamp(
            event_id=f"{number:032x}",
            received_at=START + timedelta(seconds=number),
            source="webhook",
            event="ANNOTATION_CREATED",
        )
        said = (START + timedelta(seconds=number)).isoformat()
        yield put(
            "task", {"id": number, "created_at": said, "data": {"image": f"s3://a/{number}.jpg"}}, stamp
        )
        yield put("annotation", _annotation(number, said), stamp, task_created_at=said)


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


def _make(store: FolderStore) -> None:
    waiting: list[Record] = []
    position = int(START.timestamp() * 1000)
    for record in _records():
        waiting.append(record)
        if len(waiting) == RECORDS_AN_OBJECT:
            body = "".join(one.to_json() + "\n" for one in waiting).encode()
            position, waiting = position + 1, []
            store.put(LAYOUT.log(LogKey(position=position, sha=hashlib.sha256(body).hexdigest()[:16])), body)


def main(what: str, folder: str) -> None:
    """One process: `make` writes the log, `log` reads it, `fold` makes a snapshot, `snapshot` reads from it."""
    store, count = FolderStore(Path(folder)), 0
    began, began_cpu = time.perf_counter(), time.process_time()
    if what == "make":
        _make(store)
    elif what == "fold":
        from workers.snapshot import Snapshot

        Snapshot(store, LAYOUT, beat=lambda **_: None, now=lambda: datetime.now(UTC)).run()
    else:
        with history.open_history(store, LAYOUT) as state:
            assert (state.manifest is None) == (what == "log")
            count = sum(1 for thing in state.alive("annotation") if thing.data["result"])
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps({"seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak_mib, "annotations": count})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
