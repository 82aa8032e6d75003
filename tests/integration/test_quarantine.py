"""`quarantine list|show|retry` over a real Redis: what could not be read is looked at, and read again."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from bridge.edges import redis as names
from bridge.edges import stream
from bridge.edges.log import read_records
from bridge.edges.s3 import S3Store
from bridge.edges.stream import Entry
from bridge.settings import LabelStudioSettings, S3Settings, SidecarSettings, WorkersSettings
from sidecar.cli import cli
from sidecar.clients import Clients, open_clients
from tests.conftest import sample_bytes
from workers import archive, context

UID = "1.1795312801"
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def clients(redis_client: redis.Redis, redis_url: str, s3_settings: S3Settings, tmp_path: Path) -> Clients:
    settings = SidecarSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=s3_settings,
        redis_url=redis_url,
        webhook_secret="a-secret-of-the-tests",
        api_token="a-token-of-the-tests",
        spool_dir=str(tmp_path / "spool"),
    )
    return dataclasses.replace(open_clients(settings), redis=redis_client)


def run(clients: Clients, *words: str) -> Result:
    return CliRunner().invoke(cli, ["quarantine", *words], obj=clients, prog_name="python -m sidecar")


def quarantined(
    clients: Clients, body: bytes, *, source: str = "webhook", uid: str = UID
) -> tuple[str, Entry]:
    """An entry that an earlier version of us could not read; with its id in the quarantine."""
    entry = Entry(event_id=uuid.uuid4().hex, received_at=LONG_AGO, source=source, action="?", body=body)
    stream.append(clients.redis, uid, entry)
    (kept,) = stream.read(clients.redis, uid, max_entries=1, max_bytes=1)
    stream.move_to_quarantine(clients.redis, uid, kept, "an older version could not read it")
    return stream.quarantined(clients.redis, 1)[0].stream_id, entry


@pytest.mark.usefixtures("_no_context_left")
def test_a_body_that_can_be_read_by_now_goes_on_its_way_with_the_stamp_of_the_door(
    clients: Clients, workers_settings: WorkersSettings, store: S3Store
) -> None:
    id, entry = quarantined(clients, sample_bytes("ANNOTATION_CREATED"))
    result = run(clients, "retry", id)
    assert (result.exit_code, UID in result.stdout) == (0, True)
    assert stream.quarantine_size(clients.redis) == 0
    (kept,) = stream.read(clients.redis, UID, max_entries=9, max_bytes=1 << 30)
    assert (kept.event_id, kept.received_at, kept.body) == (entry.event_id, entry.received_at, entry.body)
    assert kept.action == "ANNOTATION_CREATED"
    context.install(context.Context(workers_settings, connection=clients.redis, store=store))
    archive.drain(UID)
    records = list(read_records(store, context.current().layout(UID)))
    assert {(record.event_id, record.received_at) for record in records} == {(entry.event_id, LONG_AGO)}


def test_what_still_cannot_be_read_stays_and_says_why(clients: Clients) -> None:
    bad, _ = quarantined(clients, b"{")
    good, _ = quarantined(clients, sample_bytes("ANNOTATION_CREATED"))
    result = run(clients, "retry", "--all", "--json")
    assert result.exit_code == 1
    found = {one["id"]: one for one in json.loads(result.stdout)["entries"]}
    assert "not JSON" in found[bad]["reason"]
    assert found[good] == {"id": good, "uid": UID, "reason": ""}
    assert [item.stream_id for item in stream.quarantined(clients.redis)] == [bad]
    assert "stays: " in run(clients, "retry", bad).stdout


def test_a_body_that_names_no_project_returns_to_the_stream_it_was_in(clients: Clients) -> None:
    id, _ = quarantined(clients, b'{"action": "INFERENCE", "inferences": []}', source="ml_backend", uid="2.5")
    assert run(clients, "retry", id).exit_code == 0
    assert stream.waiting(clients.redis, "2.5") == 1


def test_a_retry_asks_for_a_drain_and_of_unknown_entries_it_says_so(clients: Clients) -> None:
    quarantined(clients, sample_bytes("ANNOTATION_CREATED"))
    clients.redis.delete(names.pending(UID))
    for id in ("1-1", "nonsense", "9" * 30):
        result = run(clients, "retry", id)
        assert result.exit_code == 1
        assert "has no entry" in result.stdout
    assert run(clients, "retry", "--all").exit_code == 0
    assert clients.redis.exists(names.pending(UID))
    assert run(clients, "retry", "--all").stdout == "The quarantine is empty.\n"
    assert run(clients, "retry").exit_code == 2
    assert run(clients, "retry", "1-1", "--all").exit_code == 2


def test_all_is_more_than_a_page(clients: Clients) -> None:
    entry = Entry(event_id="e", received_at=LONG_AGO, source="webhook", action="?", body=b"{")
    for _ in range(250):
        stream.append_quarantine(clients.redis, entry, "why")
    assert len(stream.quarantined_ids(clients.redis)) == 250


def test_the_whole_body_is_saved_for_its_owner_alone_and_printed_as_it_came(
    clients: Clients, tmp_path: Path
) -> None:
    body = b"\xff" + b"x" * 10_000 + b'"token": "secret"'
    id, _ = quarantined(clients, body)
    target = tmp_path / "body.bin"
    assert run(clients, "show", id, "--body", str(target)).exit_code == 0
    assert target.read_bytes() == body
    assert target.stat().st_mode & 0o777 == 0o600
    again = run(clients, "show", id, "--body", str(target))
    assert (again.exit_code, "choose another name" in again.stderr) == (1, True)
    assert run(clients, "show", id, "--body", "-").stdout_bytes == body
    assert "secret" not in run(clients, "show", id).stdout


def test_an_entry_written_by_hand_does_not_hide_the_others(clients: Clients) -> None:
    clients.redis.xadd(names.QUARANTINE, {"nonsense": "by hand"})
    id, _ = quarantined(clients, b"{")
    listed = json.loads(run(clients, "list", "--json").stdout)
    assert len(listed) == 2
    assert listed[0]["id"] == id
