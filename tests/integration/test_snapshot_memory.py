"""What making a snapshot costs in memory: the job in a process of its own, over a log in a folder, with a real Redis."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import redis

from benchmarks.fold import LAYOUT, START, FolderStore
from bridge.edges import redis as redis_edge
from bridge.edges import snapshots
from bridge.keys import LogKey
from bridge.records import format_time
from bridge.settings import LabelStudioSettings, S3Settings, WorkersSettings
from bridge.store import Progress
from workers import context, snapshot

ROOT = Path(__file__).parents[2]
FEW, MANY = 2_500, 6_250
MORE_MIB = 80
"""What the longer log may cost on top. Seen: 20 to 45, wherever the row groups happen to end; 120 when PASS_BYTES was
put so high that all of the log was folded at once."""
AN_OBJECT = 250
TEXT_BYTES = 16_000


class Folder(FolderStore):
    """A bucket in a folder that holds no file in memory, whatever its size."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def upload(
        self, key: str, path: Path, *, content_type: str = "", progress: Progress | None = None
    ) -> None:
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def write_log(store: Folder, count: int) -> None:
    """Tasks with a long text each, as the drain writes them: memory is told by bytes, the seconds by things."""
    for first in range(1, count + 1, AN_OBJECT):
        body = b"".join(line(number) for number in range(first, min(first + AN_OBJECT, count + 1)))
        position = int(START.timestamp() * 1000) + first
        store.put(LAYOUT.log(LogKey(position=position, sha=hashlib.sha256(body).hexdigest()[:16])), body)


def line(number: int) -> bytes:
    at = format_time(START + timedelta(seconds=number))
    text = f"{number:08d}" * (TEXT_BYTES // 8)
    fields = {
        "kind": "task",
        "op": "put",
        "id": str(number),
        "created_at": at,
        "version": at,
        "event_id": f"{number:032x}",
        "received_at": at,
        "source": "webhook",
        "event": "TASKS_CREATED",
        "data": {"id": number, "created_at": at, "updated_at": at, "data": {"text": text}},
    }
    return json.dumps(fields).encode() + b"\n"


def peak_mib(folder: Path, redis_url: str) -> float:
    """Of the job in a process of its own, with one heap: how many there are depends on how busy the machine is."""
    command = [sys.executable, "-m", "tests.integration.test_snapshot_memory", str(folder), redis_url]
    heap = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | heap, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout)


def make_snapshot(folder: str, redis_url: str) -> None:
    """What that process does. Prints its peak memory, in MiB."""
    settings = WorkersSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=S3Settings(
            endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b", bucket="labels"
        ),
        redis_url=redis_url,
    )
    context.install(
        context.Context(settings, connection=redis_edge.client(redis_url), store=Folder(Path(folder)))
    )
    snapshot.make(LAYOUT.uid)
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def test_a_longer_log_takes_no_more_memory(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    """40 and 100 MB of log."""
    peaks = []
    for count in (FEW, MANY):
        redis_client.flushall()
        store = Folder(tmp_path / str(count))
        write_log(store, count)
        size = sum(info.size_bytes for info in store.keys(LAYOUT.log_prefix))
        assert size > 2 * snapshot.PASS_BYTES, "one pass over the log would prove nothing"
        peaks.append(peak_mib(store.folder, redis_url))
        (made,) = snapshots.manifests(store, LAYOUT)
        assert made.rows()["task"] == count
    assert peaks[1] < peaks[0] + MORE_MIB, peaks


if __name__ == "__main__":
    make_snapshot(*sys.argv[1:])
