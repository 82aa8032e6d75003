"""`archive verify|dump|log|projects` over a real Redis and a bucket over HTTP; the damage is done behind our back."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge import snapshots as rules
from bridge.edges import exports as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.history import open_history
from bridge.edges.log import log_keys, read_object
from bridge.edges.s3 import S3Store
from bridge.edges.verify import Verification
from bridge.errors import Unavailable
from bridge.keys import CurrentKey, Layout, LogKey, project_uid
from bridge.records import Record, Stamp, delete, parse_time, put
from bridge.settings import WorkersSettings
from sidecar.cli import cli
from sidecar.clients import Clients
from tests import fakes
from tests.conftest import sample
from tests.desks import settings_on
from workers import baseline, context, current, media, metrics, snapshot

BORN = parse_time(sample("api_project")["created_at"])
assert BORN is not None
UID = project_uid(sample("api_project")["id"], BORN)
UPLOAD = "/data/upload/4/cea5609f-%C3%89toile_1.PNG"


class FakeLabelStudio(fakes.FakeLabelStudio):
    """Also answers for tasks by id; `meanwhile` is called once, after the first whole reading."""

    meanwhile: Callable[[], None] | None = None

    def tasks_by_id(self, project_id: int, ids: list[int]) -> list[dict[str, Any]]:
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
        return copy.deepcopy([task for task in self.tasks if task["id"] in ids])


class Place:
    """A bucket with the record of one project, made by the workers, and an operator who looks at it."""

    def __init__(self, clients: Clients, here: context.Context, studio: FakeLabelStudio) -> None:
        self.clients, self.here, self.studio = clients, here, studio
        self.layout = Layout(UID, clients.settings.s3.bucket_prefix)
        self.store = clients.store

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["archive", *arguments], obj=self.clients)

    def verify(self, *options: str) -> dict[str, Any]:
        """The report as JSON; fails when the exit code does not fit it."""
        done = self.run("verify", UID, "--settle", "0", "--json", *options)
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == (0 if report["ok"] else 1), done.output
        return report

    def whats(self, *options: str) -> list[tuple[str, str, str]]:
        return [(one["part"], one["where"], one["what"]) for one in self.verify(*options)["differences"]]

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def log(self) -> list[str]:
        return [info.key for info in log_keys(self.store, self.layout)]

    def append(self, *records: Record) -> str:
        return self.here.log_writer(UID).append(list(records))

    def append_lines(self, body: bytes) -> str:
        """A log object as a newer version of us would write it."""
        last = self.layout.parse_log(self.log()[-1])
        assert last is not None
        key = LogKey(position=last.position + 1, sha=hashlib.sha256(body).hexdigest()[:16])
        self.store.put(self.layout.log(key), body)
        return self.layout.log(key)

    def current(self, id: int, *, deleted: bool = False) -> str:
        return self.layout.current(CurrentKey(annotation_id=str(id), deleted=deleted))

    def work(self) -> None:
        """What the workers do with all that was asked for."""
        queues = [queue.open_queue(self.here.redis, name) for name in jobs.QUEUES if name != jobs.RECONCILE]
        SimpleWorker(queues, connection=self.here.redis, serializer=JSONSerializer).work(
            burst=True, logging_level="WARNING"
        )

    def export(self) -> str:
        """The id of an export that is whole."""
        source = registry.newest_source(self.store, self.here.redis, self.layout)
        order = registry.order_of(self.layout, "CSV", "all", source)
        registry.ask(self.here.redis, self.store, self.layout, order, "test", self.here.now())
        self.work()
        return order.id


@pytest.fixture
def place(
    redis_client: redis.Redis,
    store: S3Store,
    workers_settings: WorkersSettings,
    _no_context_left: None,
) -> Place:
    studio = FakeLabelStudio()
    here = context.Context(
        workers_settings,
        connection=redis_client,
        store=store,
        label_studio=studio,  # type: ignore[arg-type]
    )
    context.install(here)
    redis_client.sadd(names.WANTED, UID)
    clients = Clients(
        settings=settings_on(workers_settings.s3),
        label_studio=studio,  # type: ignore[arg-type]
        redis=redis_client,
        store=store,
        check_bucket=store.check,
    )
    made = Place(clients, here, studio)
    baseline.run(UID, "connect")
    media.copy(UID, [UPLOAD])
    current.refresh(UID)
    metrics.refresh(UID)
    for name in jobs.QUEUES:
        queue.open_queue(redis_client, name).empty()
    return made


def stamp(place: Place, event: str = "ANNOTATION_UPDATED") -> Stamp:
    return Stamp(event_id="e", received_at=place.here.now(), source="webhook", event=event)


# --- all well


def test_a_record_as_the_workers_made_it_verifies(place: Place) -> None:
    place.export()
    for options in ([], ["--deep"]):
        report = place.verify(*options)
        assert report["differences"] == []
        assert report["skipped"] == {}
        assert report["counts"]["log_objects"] == len(place.log())
        assert report["counts"]["compared"] >= 17


def test_the_screen_says_that_all_is_well(place: Place) -> None:
    done = place.run("verify", str(place.here.label_studio.answer["project"]["id"]))
    assert done.exit_code == 0, done.output
    assert "label studio  ok" in done.output
    assert "differ" not in done.output


def test_offline_label_studio_is_not_asked(place: Place) -> None:
    place.studio.asked.clear()
    assert place.verify("--offline")["skipped"] == {"label_studio": "not asked"}
    assert place.studio.asked == []


# --- the log


def test_a_truncated_log_object_is_named_and_costs_itself_only(place: Place) -> None:
    key = place.append(put("user", {"id": 77, "email": "a@example.com"}, stamp(place)))
    place.store.put(key, place.store.get(key)[:-9])
    found = place.whats("--offline")
    assert found == [("log", key, "checksum"), ("log", key, "unreadable")]
    done = place.run("dump", UID, "--kind", "annotation")
    assert done.exit_code == 1
    assert key in done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["7", "8", "9"]


def test_verify_folds_a_damaged_object_as_its_readers_do(place: Place) -> None:
    """What is left of it is shown by `log` and is in the state: current/ does not differ."""
    one, other = (
        put("annotation", place.studio.annotation(id) | {"result": []}, stamp(place)) for id in (8, 9)
    )
    key = place.append(one, other)
    place.store.put(key, place.store.get(key)[:-9])
    current.refresh(UID)
    assert {what for _, _, what in place.whats("--offline")} == {"checksum", "unreadable"}
    dumped = place.run("dump", UID, "--kind", "annotation").stdout.splitlines()
    assert json.loads(dumped[1])["id"] == "8"
    assert json.loads(dumped[1])["data"]["result"] == []
    shown = place.run("log", UID)
    assert shown.exit_code == 1
    assert [line["id"] for line in map(json.loads, shown.stdout.splitlines()) if line["key"] == key] == ["8"]


def test_an_edited_log_object_is_named_and_nothing_repairs_it(place: Place) -> None:
    key = place.log()[0]
    body = place.store.get(key)
    edited = body.replace(b'"baseline"', b'"Baseline"', 1)
    place.store.put(key, edited)
    report = place.verify("--offline", "--repair")
    assert [(one["where"], one["what"], one["repair"]) for one in report["differences"]] == [
        (key, "checksum", "")
    ]
    assert report["repairs"] == []
    assert place.store.get(key) == edited


def test_log_objects_that_are_gone_are_told_by_what_was_made_of_them(place: Place) -> None:
    place.append(put("user", {"id": 77, "email": "a@example.com"}, stamp(place)))
    place.export()
    first, last = place.log()[0], place.log()[-1]
    body = place.store.get(last)
    place.store.delete(last)
    assert ("log", last, "missing") in place.whats("--offline")
    place.store.put(last, body)
    place.store.delete(first)
    assert ("log", place.layout.log_prefix, "lost") in place.whats("--offline")


def test_what_is_no_log_object_and_what_lies_on_the_wrong_day_is_named(place: Place) -> None:
    key = place.log()[-1]
    junk = f"{place.layout.log_prefix}notes.txt"
    moved = f"{place.layout.log_prefix}2031/01/01/{key.rpartition('/')[2]}"
    place.store.put(junk, b"hello")
    place.store.put(moved, place.store.get(key))
    assert place.whats("--offline") == [("log", moved, "misplaced"), ("log", junk, "foreign")]


def test_a_record_from_a_newer_version_is_named_kept_and_no_difference(place: Place) -> None:
    last = read_object(place.store, place.log()[-1])[-1]
    newer = json.loads(last.to_json()) | {"kind": "relation", "op": "link", "id": "5", "ends": [7, 8]}
    key = place.append_lines(json.dumps(newer).encode() + b"\n" + last.to_json().encode() + b"\n")
    report = place.verify()
    assert report["differences"] == []
    assert any(
        note.startswith(f"{key}: 1 record from a newer version passed over") for note in report["notes"]
    )
    dumped = place.run("dump", UID)
    assert dumped.exit_code == 0
    assert "1 record from a newer version passed over" in dumped.stderr
    assert [line["ends"] for line in place.lines("log", UID, "--kind", "relation")] == [[7, 8]]


def test_a_newer_record_of_an_annotation_survives_in_current(place: Place) -> None:
    newer = json.loads(put("annotation", place.studio.annotation(8), stamp(place)).to_json())
    place.append_lines(json.dumps(newer | {"op": "link", "ends": [7]}).encode() + b"\n")
    current.refresh(UID)
    kept = json.loads(place.store.get(place.current(8)))["fold"]["passed_over"]
    assert [json.loads(line)["ends"] for line in kept] == [[7]]
    assert place.whats("--offline", "--deep") == []


# --- what is derived


def test_current_is_compared_with_the_fold_and_made_again(place: Place) -> None:
    text = place.store.get(place.current(8))
    place.store.delete(place.current(7))
    place.store.put(place.current(8), text.replace(b'"was_cancelled"', b'"was_canceled"'))
    place.store.put(place.current(9, deleted=True), place.store.get(place.current(9)))
    place.store.put(place.current(4711), text)
    report = place.verify("--offline", "--repair")
    assert {(one["where"], one["what"]) for one in report["differences"]} == {
        (place.current(7), "missing"),
        (place.current(8), "differs"),
        (place.current(9, deleted=True), "unexpected"),
        (place.current(4711), "unexpected"),
    }
    place.work()
    assert place.whats("--offline") == []
    assert place.store.get(place.current(8)) == text


def test_what_current_catches_up_with_meanwhile_is_no_difference(place: Place) -> None:
    place.append(put("annotation", place.studio.annotation(8) | {"result": []}, stamp(place)))
    report = Verification(
        store=place.store, layout=place.layout, label_studio=None, sleep=lambda seconds: current.refresh(UID)
    ).run()
    assert report.problems == []


def test_a_damaged_copy_of_an_upload_is_found_and_copied_again(place: Place) -> None:
    key = next(line["data"]["key"] for line in place.lines("dump", UID, "--kind", "media"))
    body = place.store.get(key)
    place.store.put(key, body[::-1])
    assert place.whats("--offline") == []  # same size: only reading tells
    assert place.whats("--offline", "--deep", "--repair") == [("media", UPLOAD, "checksum")]
    assert place.store.get(key) == body
    place.store.put(key, body[:3])
    assert place.whats("--offline", "--repair") == [("media", UPLOAD, "size")]
    place.store.delete(key)
    assert place.whats("--offline", "--repair") == [("media", UPLOAD, "missing")]
    place.work()
    assert place.store.get(key) == body
    assert place.whats("--offline", "--deep") == []


def test_a_copy_is_not_replaced_by_another_file(place: Place) -> None:
    key = next(line["data"]["key"] for line in place.lines("dump", UID, "--kind", "media"))
    place.store.put(key, b"damaged")
    place.studio.files[UPLOAD] = b"not a star!!"
    report = place.verify("--offline", "--deep", "--repair")
    assert "stays as it is" in report["repairs"][0]
    assert place.store.get(key) == b"damaged"


def test_metrics_whose_file_is_gone_are_made_again(place: Place) -> None:
    summary = json.loads(place.store.get(place.layout.metrics_summary))
    place.store.delete(summary["rows"]["key"])
    assert place.whats("--offline", "--repair") == [("metrics", summary["rows"]["key"], "missing")]
    place.work()
    assert place.whats("--offline", "--deep") == []
    place.store.put(place.layout.metrics_summary, b"{")
    assert place.whats("--offline", "--repair") == [("metrics", place.layout.metrics_summary, "unreadable")]
    place.work()
    assert place.whats("--offline", "--deep") == []


def test_an_export_whose_file_is_gone_is_named_and_made_again(place: Place) -> None:
    export_id = place.export()
    manifest = registry.read_manifest(place.store, place.layout, export_id)
    assert manifest is not None
    key = manifest.files[0].key
    place.store.delete(key)
    report = place.verify("--offline", "--repair")
    assert [(one["part"], one["where"], one["what"]) for one in report["differences"]] == [
        ("exports", key, "missing")
    ]
    assert registry.read_manifest(place.store, place.layout, export_id) is None
    place.work()
    assert registry.read_manifest(place.store, place.layout, export_id) is not None
    assert place.whats("--offline", "--deep") == []


def test_an_exports_file_with_other_bytes_is_found_by_reading(place: Place) -> None:
    manifest = registry.read_manifest(place.store, place.layout, place.export())
    assert manifest is not None
    key = manifest.files[0].key
    place.store.put(key, place.store.get(key)[::-1])
    assert place.whats("--offline") == []
    assert place.whats("--offline", "--deep") == [("exports", key, "checksum")]


def snapshot_of(place: Place) -> tuple[str, rules.Manifest]:
    """A snapshot that is whole: the key of its manifest, and what it says."""
    snapshot.make(UID)
    key = max(
        info.key
        for info in place.store.keys(place.layout.snapshots_prefix)
        if info.key.endswith(f"/{rules.MANIFEST}")
    )
    return key, rules.Manifest.from_json(place.store.get(key))


def test_a_snapshot_whose_file_is_gone_is_named_and_another_is_made(place: Place) -> None:
    key, manifest = snapshot_of(place)
    assert place.verify("--offline", "--deep")["notes"] == []
    file = f"{key.rpartition('/')[0]}/{manifest.files[0].name}"
    place.store.delete(file)
    assert place.whats("--offline", "--repair") == [("snapshots", file, "missing")]
    assert place.store.head(key) is None
    place.work()
    assert snapshot_of(place)[0] != key
    assert place.whats("--offline", "--deep") == []


def test_a_snapshots_file_with_other_bytes_is_found_by_reading(place: Place) -> None:
    key, manifest = snapshot_of(place)
    file = f"{key.rpartition('/')[0]}/{manifest.files[0].name}"
    place.store.put(file, place.store.get(file)[::-1])
    assert place.whats("--offline") == []
    assert place.whats("--offline", "--deep") == [("snapshots", file, "checksum")]


def test_a_snapshot_that_leads_to_another_state_than_the_log_is_found_by_reading(place: Place) -> None:
    """Every checksum fits; the log it was made of was another one."""
    wrong = place.append(put("user", {"id": 77, "email": "a@example.com"}, stamp(place)))
    newest, _ = snapshot_of(place)
    # What the snapshot folded is replaced by something else of the same name and place in the log.
    body = place.store.get(wrong).replace(b'"77"', b'"78"')
    place.store.delete(wrong)
    parsed = place.layout.parse_log(wrong)
    assert parsed is not None
    other = dataclasses.replace(parsed, sha=hashlib.sha256(body).hexdigest()[:16])
    place.store.put(place.layout.log(other), body)
    manifest = place.store.get(newest).replace(wrong.encode(), place.layout.log(other).encode())
    place.store.put(newest, manifest)
    found = place.verify("--offline", "--deep")["differences"]
    assert [(one["where"], one["what"]) for one in found] == [(newest, "differs")]
    assert "user 77" in found[0]["words"]


def test_a_manifest_from_a_newer_version_is_named_and_left_alone(place: Place) -> None:
    key, _ = snapshot_of(place)
    newer = json.loads(place.store.get(key)) | {"schema": rules.SCHEMA + 1}
    place.store.put(key, json.dumps(newer).encode())
    report = place.verify("--offline", "--deep", "--repair")
    assert report["ok"]
    assert any(note.startswith(key) for note in report["notes"])
    assert json.loads(place.store.get(key)) == newer


def test_a_manifest_cut_short_is_named(place: Place) -> None:
    key, _ = snapshot_of(place)
    place.store.put(key, place.store.get(key)[:-30])
    assert place.whats("--offline", "--repair") == [("snapshots", key, "unreadable")]


def test_a_newer_record_survives_in_a_snapshot(place: Place) -> None:
    newer = json.loads(put("annotation", place.studio.annotation(8), stamp(place)).to_json())
    lines = [newer | {"op": "link", "ends": [7]}, newer | {"kind": "relation", "id": "5", "ends": [8]}]
    place.append_lines("".join(json.dumps(line) + "\n" for line in lines).encode())
    current.refresh(UID)
    snapshot_of(place)
    with open_history(place.store, place.layout) as history:
        assert history.manifest is not None
        state = history.state()
    assert state.passed_over == 2
    assert place.whats("--offline", "--deep") == []


# --- Label Studio


def test_content_that_differs_is_named_field_by_field_and_reconcile_is_asked_for(place: Place) -> None:
    place.studio.annotation(8)["lead_time"] = 1234.5
    place.studio.tasks[1]["annotations"] = []
    place.studio.add_tasks(1)
    report = place.verify("--repair")
    found = {(one["where"], one["what"], one.get("field") or "") for one in report["differences"]}
    new = max(task["id"] for task in place.studio.tasks)
    assert ("annotation 8", "field", "lead_time") in found
    assert (f"task {new}", "unexpected", "") in found
    assert ("annotation 7", "missing", "") in found
    field = next(one for one in report["differences"] if one["what"] == "field")
    assert field["found"] == 1234.5
    asked = queue.open_queue(place.here.redis, jobs.RECONCILE).jobs
    assert [job.args[0] for job in asked] == [UID]


def test_what_the_log_hears_of_meanwhile_is_no_difference(place: Place) -> None:
    changed = place.studio.annotation(8)
    changed |= {"lead_time": 1234.5, "updated_at": "2031-01-01T00:00:00Z"}

    def webhook_arrives() -> None:
        place.append(put("annotation", copy.deepcopy(changed), stamp(place)))

    place.studio.meanwhile = webhook_arrives
    place.studio.asked.clear()
    found = [one for one in place.whats() if one[0] == "label_studio"]
    assert found == []


def test_a_project_that_label_studio_does_not_have_is_said_and_no_difference(place: Place) -> None:
    place.studio.answer["project"]["id"] = 4711
    report = place.verify()
    assert report["ok"]
    assert "has no project" in report["skipped"]["label_studio"]


def test_another_project_under_the_same_id_is_not_compared(place: Place) -> None:
    place.studio.answer["project"]["created_at"] = "2031-01-01T00:00:00Z"
    report = place.verify()
    assert report["ok"]
    assert "another project has the id" in report["skipped"]["label_studio"]


def test_a_label_studio_that_does_not_answer_leaves_it_unverified(place: Place) -> None:
    place.studio.fail["users"] = [Unavailable("no answer")]
    assert place.whats() == [("label_studio", "Label Studio", "unreachable")]


# --- looking


def test_the_dump_is_the_state_now_or_at_a_time(place: Place) -> None:
    everything = place.lines("dump", UID)
    assert {line["kind"] for line in everything} >= {"project", "user", "task", "annotation", "media"}
    assert all(line["alive"] and not line["hidden"] for line in everything)
    before = place.here.now().isoformat()
    changed = place.studio.annotation(8) | {"result": [], "updated_at": "2031-01-01T00:00:00Z"}
    place.append(put("annotation", changed, stamp(place)))

    def result(*options: str) -> Any:
        lines = place.lines("dump", UID, "--kind", "annotation", *options)
        return next(line["data"]["result"] for line in lines if line["id"] == "8")

    assert result() == []
    assert result("--at", before) == place.studio.annotation(8)["result"]


def test_the_dump_leaves_out_what_is_deleted_unless_asked(place: Place) -> None:
    task = ("task", str(place.studio.tasks[1]["id"]))
    place.append(delete(*task, stamp(place, "TASKS_DELETED")))
    shown = {(line["kind"], line["id"]) for line in place.lines("dump", UID)}
    every = {(line["kind"], line["id"]): line for line in place.lines("dump", UID, "--all")}
    assert task not in shown
    assert every[task]["alive"] is False
    hidden = {name for name, line in every.items() if line["alive"] and line["hidden"]}
    assert hidden == {("annotation", "7"), ("prediction", "5")}
    assert not hidden & shown


def test_the_log_shows_every_revision_with_its_object(place: Place) -> None:
    since = place.here.now().isoformat()
    keys = []
    for number in (1, 2):
        changed = place.studio.annotation(8) | {
            "lead_time": number,
            "updated_at": f"2031-01-0{number}T00:00:00Z",
        }
        keys.append(place.append(put("annotation", changed, stamp(place))))
    place.append(put("annotation", place.studio.annotation(9), stamp(place)))
    found = place.lines("log", UID, "--since", since, "--kind", "annotation", "--id", "8")
    assert [(line["key"], line["data"]["lead_time"]) for line in found] == [(keys[0], 1), (keys[1], 2)]
    assert len(place.lines("log", UID)) > len(found)


def test_projects_are_listed_without_label_studio_and_redis(place: Place) -> None:
    place.studio.asked.clear()
    listed = json.loads(place.run("projects", "--json").stdout)
    assert place.studio.asked == []
    assert [(one["uid"], one["title"]) for one in listed] == [(UID, place.studio.answer["project"]["title"])]
    assert listed[0]["absent_since"] is None
    assert listed[0]["log_objects"] == len(place.log())
    assert listed[0]["size_bytes"] > 1000
    assert UID in place.run("projects").output


def test_a_project_is_found_by_uid_id_or_title(place: Place) -> None:
    title = place.studio.answer["project"]["title"]
    for given in (UID, UID.partition(".")[0], title, title.upper()):
        assert place.run("dump", given, "--kind", "project").exit_code == 0


def test_a_project_there_is_not_is_answered_with_those_there_are(place: Place) -> None:
    done = place.run("verify", "Zebras")
    assert done.exit_code == 1
    assert UID in done.output


def test_a_wrong_prefix_is_answered_with_the_right_one(place: Place) -> None:
    s3 = dataclasses.replace(place.clients.settings.s3, bucket_prefix="team-b")
    settings = dataclasses.replace(place.clients.settings, s3=s3)
    place.clients = dataclasses.replace(place.clients, settings=settings)
    done = place.run("verify", UID)
    assert done.exit_code == 1
    assert "BUCKET_PREFIX 'team-a'" in done.output
    assert place.run("projects").exit_code == 0


def test_a_time_without_a_zone_is_wrong_usage(place: Place) -> None:
    assert place.run("dump", UID, "--at", "2026-11-22T06:00:00").exit_code == 2
