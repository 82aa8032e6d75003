"""`archive verify --repair` from damage to a clean verify: everything derived damaged at once, and the jobs it asks for run."""

from __future__ import annotations

import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import exports as registry
from bridge.edges import queue
from bridge.keys import SnapshotKey
from bridge.records import put
from tests.integration.test_archive_commands import UID, UPLOAD, Place, place, snapshot_of, stamp
from workers import current, metrics, reading, snapshot

__all__ = ["place"]


def damaged(place: Place) -> set[tuple[str, str, str]]:
    """Something of every part that is derived, in every way that it can be wrong; what verify should say of it."""
    store, layout = place.store, place.layout
    older, manifest = snapshot_of(place)
    place.append(put("annotation", place.studio.annotation(8), stamp(place)))
    newer, _ = snapshot_of(place)
    assert newer != older
    lost = layout.snapshot(SnapshotKey(position=manifest.position, name=manifest.files[0].name))
    store.delete(lost)
    store.put(newer, store.get(newer)[:-30])
    export = registry.read_manifest(store, layout, place.export())
    assert export is not None
    store.put(export.files[0].key, b"")
    current.refresh(UID)
    metrics.refresh(UID)
    text = store.get(place.current(8))
    store.delete(place.current(7))
    store.put(place.current(8), text.replace(b'"was_cancelled"', b'"was_canceled"'))
    store.put(place.current(4711), text)
    copied = next(line["data"]["key"] for line in place.lines("dump", UID, "--kind", "media"))
    store.delete(copied)
    store.put(layout.metrics_summary, b"{")
    return {
        ("snapshots", lost, "missing"),
        ("snapshots", newer, "unreadable"),
        ("exports", export.files[0].key, "size"),
        ("current", place.current(7), "missing"),
        ("current", place.current(8), "differs"),
        ("current", place.current(4711), "unexpected"),
        ("media", UPLOAD, "missing"),
        ("metrics", layout.metrics_summary, "unreadable"),
    }


def reconciled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the workers do when a reconcile was asked for, and what follows it."""
    monkeypatch.setattr(reading, "CONFIRM_AFTER_S", 0)
    asked = queue.open_queue(place.here.redis, jobs.RECONCILE)
    assert [job.func_name for job in asked.jobs] == ["workers.reconcile.run"]
    SimpleWorker([asked], connection=place.here.redis, serializer=JSONSerializer).work(
        burst=True, logging_level="WARNING"
    )
    place.work()


def test_all_that_is_derived_is_made_again(place: Place) -> None:
    wrong = damaged(place)
    log = place.log()
    report = place.verify("--deep", "--repair")
    assert {(one["part"], one["where"], one["what"]) for one in report["differences"]} == wrong
    place.verify("--offline", "--repair")  # again, before any worker came
    place.work()
    done = place.run("verify", UID, "--deep", "--settle", "0")
    assert done.exit_code == 0, done.output
    assert place.log()[: len(log)] == log
    snapshot.make(UID)
    assert place.whats("--deep") == []


def test_what_differs_from_label_studio_is_brought_into_the_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.studio.annotation(8)["lead_time"] = 1234.5
    place.studio.tasks[1]["annotations"] = []
    place.studio.add_tasks(1)
    log = place.log()
    assert {part for part, _, _ in place.whats("--repair")} == {"label_studio"}
    reconciled(place, monkeypatch)
    done = place.run("verify", UID, "--deep", "--settle", "0")
    assert done.exit_code == 0, done.output
    assert place.log()[: len(log)] == log


def test_after_an_edit_of_the_log_the_present_is_right_again_and_the_edit_stays_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line of it can be read, so it is folded. Only a copy of the object mends it."""
    key = place.append(put("annotation", place.studio.annotation(8), stamp(place)))
    whole = place.store.get(key)
    edited = whole.replace(b'"was_cancelled":false', b'"was_cancelled":true')
    assert edited != whole
    place.store.put(key, edited)
    current.refresh(UID)
    assert place.whats("--repair") == [
        ("log", key, "checksum"),
        ("label_studio", "annotation 8", "field"),
    ]
    reconciled(place, monkeypatch)
    assert place.whats("--deep") == [("log", key, "checksum")]
    assert place.store.get(key) == edited
    place.store.put(key, whole)
    assert place.whats("--deep") == []
