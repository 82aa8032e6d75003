"""What the drain decides, without Redis or a bucket."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from bridge.edges.stream import Entry
from bridge.records import Record
from tests.conftest import sample, sample_bytes
from workers.archive import batch_of, unknown

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def entry(body: bytes, event_id: str = "e1") -> Entry:
    return Entry(event_id=event_id, received_at=NOON, source="webhook", action="?", body=body)


def annotations(records: list[Record]) -> list[Record]:
    return [record for record in records if record.kind == "annotation"]


def test_the_copies_of_task_and_project_in_many_webhooks_are_kept_once() -> None:
    entries = [entry(sample_bytes("ANNOTATION_CREATED"), f"e{number}") for number in range(5)]
    kinds = [record.kind for record in batch_of(entries).records]
    assert kinds == ["project", "task", "annotation"]


def test_the_secrets_of_a_project_payload_are_in_no_record() -> None:
    payload = sample("ANNOTATION_CREATED")
    payload["project"] |= {"token": "TOKEN-X", "task_data_login": "LOGIN-X", "task_data_password": "PASS-X"}
    lines = "".join(record.to_json() for record in batch_of([entry(json.dumps(payload).encode())]).records)
    assert not any(word in lines for word in ("TOKEN-X", "LOGIN-X", "PASS-X"))


def test_uploads_of_created_tasks_are_named_once() -> None:
    payload = sample("TASKS_CREATED")
    payload["tasks"][0]["data"] = {"image": "/data/upload/1/a.jpg", "more": ["/data/upload/1/b.jpg?x=1"]}
    payload["tasks"][1]["data"] = {"image": "/data/upload/1/a.jpg", "other": "/data/upload/../../etc/passwd"}
    found = batch_of([entry(json.dumps(payload).encode())]).uploads
    assert list(dict.fromkeys(found)) == ["/data/upload/1/a.jpg", "/data/upload/1/b.jpg"]


def test_an_unreadable_entry_costs_itself_only() -> None:
    batch = batch_of([entry(b"{"), entry(sample_bytes("ANNOTATION_CREATED"))])
    assert [reason for _, reason in batch.unreadable]
    assert len(annotations(batch.records)) == 1


def test_a_put_is_left_out_only_when_it_is_exactly_what_was_written_last() -> None:
    (first,) = annotations(batch_of([entry(sample_bytes("ANNOTATION_CREATED"))]).records)
    assert unknown([first], {}) == [first]
    assert unknown([first], {"annotation:2": first.fingerprint}) == []
    later = sample("ANNOTATION_CREATED")
    later["annotation"]["updated_at"] = "2026-11-22T03:00:00Z"
    (second,) = annotations(batch_of([entry(json.dumps(later).encode())]).records)
    assert unknown([second], {"annotation:2": first.fingerprint}) == [second], "same content, newer version"
    assert unknown([second, first], {"annotation:2": first.fingerprint}) == [second, first]


def test_a_delete_is_always_written() -> None:
    deletes = batch_of([entry(sample_bytes("ANNOTATIONS_DELETED"))]).records
    known = {f"{record.kind}:{record.id}": record.fingerprint for record in deletes}
    assert [r.op for r in unknown(deletes, known)].count("delete") == 3


def test_an_entry_survives_the_stream_with_its_stamp() -> None:
    one = Entry(
        event_id="e",
        received_at=NOON + timedelta(microseconds=7),
        source="webhook",
        action="A",
        body=b"\x00\xff",
    )
    fields = {name.encode(): value for name, value in one.to_fields().items()}
    read = Entry.from_fields(b"5-0", fields)
    assert (read.event_id, read.received_at, read.body) == (one.event_id, one.received_at, one.body)
