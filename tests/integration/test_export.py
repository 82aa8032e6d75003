"""Exports: a real Redis, a bucket over HTTP, the SDK's converter, and Label Studio's own exports of the same project."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import exports as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.exports import View
from bridge.edges.s3 import S3Store
from bridge.errors import Corrupt, NotFound, SenderError, Unavailable
from bridge.export_manifest import Manifest
from bridge.keys import ExportKey, project_uid
from bridge.records import Record, Stamp, put
from bridge.settings import WorkersSettings
from bridge.state import BASELINE_COMPLETED
from tests.conftest import sample
from workers import context, export, export_sweep

RECORDED = sample("export_of_everything")
THEIRS = RECORDED["label_studio"]
RECORDS = [Record.from_json(json.dumps(one)) for one in RECORDED["records"]]
PROJECT = next(r for r in RECORDS if r.kind == "project" and r.event == BASELINE_COMPLETED)
assert PROJECT.created_at is not None
UID = project_uid(int(PROJECT.id), PROJECT.created_at)
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


class Workplace:
    """A worker of exports with its surroundings."""

    def __init__(self, here: context.Context) -> None:
        self.here = here
        self.layout = here.layout(UID)

    def append(self, *records: Record) -> str:
        return self.here.log_writer(UID).append(list(records))

    def ask(self, format: str = "JSON", tasks: str = "annotated") -> View:
        source = registry.newest_source(self.here.store, self.here.redis, self.layout)
        order = registry.order_of(self.layout, format, tasks, source)
        return registry.ask(self.here.redis, self.here.store, self.layout, order, "test", self.here.now())

    def look(self, export_id: str) -> View:
        return registry.look(self.here.redis, self.here.store, self.layout, export_id)

    def work(self) -> None:
        """Do everything that is on the queue, as a worker does."""
        worker = SimpleWorker(
            [queue.open_queue(self.here.redis, jobs.EXPORTS)],
            connection=self.here.redis,
            serializer=JSONSerializer,
        )
        worker.work(burst=True, logging_level="CRITICAL")

    def queued(self) -> list[str]:
        return [job.func_name for job in queue.open_queue(self.here.redis, jobs.EXPORTS).jobs]

    def made(self, format: str = "JSON", tasks: str = "annotated") -> Manifest:
        view = self.ask(format, tasks)
        self.work()
        manifest = self.look(view.id).manifest
        assert manifest is not None
        return manifest

    def file(self, manifest: Manifest, name: str) -> bytes:
        file = manifest.file(name)
        assert file is not None
        return self.here.store.get(file.key)

    def keys(self) -> list[str]:
        return [info.key.rpartition("/")[2] for info in self.here.store.keys(self.layout.exports_prefix)]


class FailingStore:
    """The bucket, out of order for the keys that end in one of `refuses`."""

    def __init__(self, store: S3Store, *refuses: str) -> None:
        self._store, self.refuses = store, set(refuses)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upload(self, key: str, path: Path, **more: Any) -> None:
        self._check(key)
        self._store.upload(key, path, **more)

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self._check(key)
        self._store.put(key, body, **more)

    def _check(self, key: str) -> None:
        if any(key.endswith(end) for end in self.refuses):
            raise Unavailable(f"writing {key}: no answer from the object store")


@pytest.fixture
def failing(store: S3Store) -> FailingStore:
    return FailingStore(store)


@pytest.fixture
def empty(
    redis_client: redis.Redis,
    failing: FailingStore,
    workers_settings: WorkersSettings,
    _no_context_left: None,
) -> Workplace:
    here = context.Context(workers_settings, connection=redis_client, store=failing)  # type: ignore[arg-type]
    context.install(here)
    redis_client.sadd(names.WANTED, UID)
    return Workplace(here)


@pytest.fixture
def place(empty: Workplace) -> Workplace:
    """The bucket holds the recorded project."""
    empty.append(*RECORDS)
    return empty


def unzipped(body: bytes) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(body))
    return {name: archive.read(name) for name in archive.namelist()}


# --- beside Label Studio's own exports; docs/exports.md names each difference


@pytest.mark.parametrize(("tasks", "theirs"), [("annotated", "json"), ("all", "json_all_tasks")])
def test_json_is_label_studios_own_but_for_two_words_for_its_screen(
    place: Workplace, tasks: str, theirs: str
) -> None:
    manifest = place.made("JSON", tasks)
    expected = json.loads(json.dumps(THEIRS[theirs]))
    for task in expected:
        for draft in task["drafts"]:
            del draft["created_username"], draft["created_ago"]
    assert json.loads(place.file(manifest, "result.json")) == expected
    assert manifest.counts.regions_left_out == {}
    assert manifest.counts.objects == manifest.counts.regions


def test_csv_is_label_studios_own_to_the_byte(place: Workplace) -> None:
    manifest = place.made("CSV")
    assert place.file(manifest, "result.csv").decode() == THEIRS["csv"]
    assert manifest.counts.objects == len(list(csv.DictReader(io.StringIO(THEIRS["csv"])))) == 8


def coco_boxes(body: dict[str, Any], name: Any) -> Counter[Any]:
    """(picture, label, box and outline rounded) of each object."""
    images = {image["id"]: name(image["file_name"]) for image in body["images"]}
    labels = {one["id"]: one["name"] for one in body["categories"]}
    return Counter(
        (
            images[one["image_id"]],
            labels[one["category_id"]],
            tuple(round(n, 6) for n in one["bbox"]),
            tuple(round(n, 6) for outline in one["segmentation"] for n in outline),
        )
        for one in body["annotations"]
    )


def test_coco_differs_from_label_studios_own_only_as_intended(place: Workplace) -> None:
    manifest = place.made("COCO")
    files = unzipped(place.file(manifest, "coco.zip"))
    assert set(files) == {"images/", "result.json"}
    ours, theirs = json.loads(files["result.json"]), THEIRS["coco"]
    # Categories: labels of boxes and polygons alone; theirs has the ellipses' and the choices too.
    assert [one["name"] for one in ours["categories"]] == ["Cat", "Dog", "Tree", "Zebra"]
    assert {one["name"] for one in theirs["categories"]} == {
        "Ball",
        "Cat",
        "Dog",
        "Tree",
        "Zebra",
        "day",
        "night",
    }
    # Names: the pictures' own, made different where two have one; theirs are invented.
    own = {"a.png": "task-19-a.png", "d%20d.png": "d d.png"}
    theirs_boxes = coco_boxes(theirs, lambda name: name.partition("__")[2])
    ours_boxes = coco_boxes(ours, lambda name: name)
    by_name = Counter(
        {(own.get(name, name), *rest): number for (name, *rest), number in theirs_boxes.items()}
    )
    turned = (232.0, 192.0, 134.851252, 105.569219)
    assert ours_boxes - by_name == Counter(
        {
            # Two of theirs are called a.png; ours tells them apart.
            ("task-22-a.png", "Cat", (64.0, 48.0, 64.0, 48.0), ()): 1,
            # The second label of one region.
            ("task-22-a.png", "Dog", (64.0, 48.0, 64.0, 48.0), ()): 1,
            # Turned by 30 degrees: theirs turns percent as if the picture were square.
            ("task-22-a.png", "Cat", turned, ()): 1,
            # A region without the picture's size, which another region of the picture tells.
            ("g.png", "Dog", (128.0, 96.0, 128.0, 96.0), ()): 1,
        }
    )
    assert by_name - ours_boxes == Counter(
        {
            ("task-19-a.png", "Cat", (64.0, 48.0, 64.0, 48.0), ()): 1,
            ("task-19-a.png", "Cat", (224.0, 192.0, 142.851252, 89.569219), ()): 1,
        }
    )
    # A picture for each annotation that was not skipped: theirs leaves out e.png, on which a person made a choice only.
    assert Counter(image["file_name"] for image in ours["images"])["b.png"] == 2
    assert "e.png" in {image["file_name"] for image in ours["images"]}
    assert not any("e.png" in image["file_name"] for image in theirs["images"])
    assert {image["coco_url"] for image in ours["images"] if image["task_id"] == 23} == {
        "http://127.0.0.1:9/pics/d%20d.png"
    }
    for one in ours["annotations"]:
        assert one.keys() == theirs["annotations"][0].keys()


def voc_objects(text: bytes | str) -> list[tuple[str, ...]]:
    root = ElementTree.fromstring(text)
    fields = ("name", "bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
    return [tuple(one.findtext(field, "").strip() for field in fields) for one in root.findall("object")]


def test_voc_differs_from_label_studios_own_only_as_intended(place: Workplace) -> None:
    manifest = place.made("VOC")
    files = unzipped(place.file(manifest, "voc.zip"))
    ours = {name: body for name, body in files.items() if name.endswith(".xml")}
    theirs = THEIRS["voc"]
    # What a person drew on a.png begins with a choice: theirs passes over all of it. Of two annotators' b.png theirs
    # keeps one; of two pictures called a.png one.
    assert set(theirs) == {"Annotations/b.xml", "Annotations/h #1.xml", "Annotations/a.xml"}
    assert set(ours) == {
        "Annotations/b.xml",
        "Annotations/b-annotation-762.xml",
        "Annotations/g.xml",
        "Annotations/h #1.xml",
        "Annotations/task-19-a.xml",
        "Annotations/task-22-a.xml",
    }
    for same in ("Annotations/b.xml", "Annotations/h #1.xml"):
        assert ours[same].decode() == theirs[same]
    assert voc_objects(theirs["Annotations/a.xml"])[0] == ("Cat", "256", "192", "384", "240")
    assert voc_objects(ours["Annotations/task-22-a.xml"]) == [
        ("Cat", "232", "192", "366", "297"),
        ("Cat", "64", "48", "128", "96"),
        ("Dog", "64", "48", "128", "96"),
    ]
    assert b"<filename>b.png</filename>" in ours["Annotations/b-annotation-762.xml"]


@pytest.mark.parametrize("format", ["CSV", "COCO", "VOC"])
def test_every_region_is_in_the_output_or_listed_with_its_reason(place: Workplace, format: str) -> None:
    manifest = place.made(format)
    lines = [json.loads(line) for line in place.file(manifest, "left_out.jsonl").splitlines()]
    regions = Counter(line["reason"] for line in lines if "region" in line)
    counts = manifest.counts
    assert dict(regions) == counts.regions_left_out
    assert counts.regions_in_output + regions.total() == counts.regions == 20
    assert {
        line["region"]
        for line in lines
        if line["reason"] == "its annotation was skipped" and "region" in line
    } == {
        "r6",
        "r12",
    }


def test_the_manifest_says_what_it_is_made_of(place: Workplace) -> None:
    manifest = place.made("COCO", "all")
    assert manifest.source["log_key"] == registry.newest_source(place.here.store, None, place.layout)
    assert manifest.baseline.complete
    assert manifest.annotators == {"1": "a@example.com", "4": "cli@example.com"}
    assert manifest.model_versions == {"v1": 1}
    assert "<PolygonLabels" in manifest.label_config
    assert (manifest.counts.tasks, manifest.counts.tasks_without_annotation) == (9, 1)
    for file in manifest.files:
        info = place.here.store.head(file.key)
        assert info is not None
        assert info.size_bytes == file.size_bytes


# --- asking twice


def test_two_asking_at_once_get_one_export_and_one_job(place: Workplace) -> None:
    first, second = place.ask("COCO"), place.ask("COCO")
    assert first.id == second.id
    assert (first.state, second.state) == ("queued", "queued")
    assert place.queued() == ["workers.export.run"]
    place.work()
    again = place.ask("COCO")
    assert (again.id, again.state) == (first.id, "complete")
    assert place.queued() == []


def test_running_twice_writes_the_same(place: Workplace) -> None:
    manifest = place.made("VOC")
    manifest_key = place.layout.export(ExportKey(export_id=manifest.export_id, name="manifest.json"))
    place.here.store.delete(manifest_key)
    place.here.redis.flushall()
    export.run(UID, "VOC", "annotated", manifest.source["log_key"])
    again = place.look(manifest.export_id).manifest
    assert again is not None
    assert again.files == manifest.files


def test_a_log_that_grew_by_nothing_that_shows_gives_the_same_files(place: Workplace) -> None:
    first = place.made("COCO")
    place.append(PROJECT)
    second = place.made("COCO")
    assert second.export_id != first.export_id
    assert second.same_as == first.export_id
    assert second.files == first.files
    assert place.keys().count("coco.zip") == 1


def test_an_export_is_of_the_moment_it_was_asked_for(place: Workplace) -> None:
    view = place.ask("JSON")
    stamp = Stamp(event_id="e", received_at=NOW, source="webhook", event="TEST")
    one = THEIRS["json"][0]["annotations"][0]
    place.append(put("annotation", one | {"id": 9999, "created_at": "2026-11-22T08:00:00Z"}, stamp))
    place.work()
    manifest = place.look(view.id).manifest
    assert manifest is not None
    assert manifest.counts.annotations == 10
    assert place.made("JSON").counts.annotations == 11


# --- things that go wrong


@pytest.mark.parametrize("refuses", ["result.json", "left_out.jsonl", "manifest.json"])
def test_a_bucket_that_fails_in_the_middle_leaves_no_export_and_the_next_try_makes_it(
    place: Workplace, failing: FailingStore, refuses: str
) -> None:
    format = "JSON" if refuses == "result.json" else "CSV"
    view = place.ask(format)
    failing.refuses = {refuses}
    with pytest.raises(Unavailable):
        export.run(UID, format, "annotated", view_source(place))
    waits = place.look(view.id)
    assert (waits.state, waits.manifest) == ("queued", None)
    assert "no answer from the object store" in waits.message
    assert [one.state for one in registry.listed(place.here.redis, place.here.store, place.layout)] == [
        "queued"
    ]
    failing.refuses = set()
    export.run(UID, format, "annotated", view_source(place))
    assert place.look(view.id).state == "complete"


def view_source(place: Workplace) -> str:
    return registry.newest_source(place.here.store, place.here.redis, place.layout)


def test_after_the_last_try_it_has_failed_and_asking_again_begins_anew(
    place: Workplace, failing: FailingStore
) -> None:
    failing.refuses = {"result.json"}
    view = place.ask("JSON")
    job = queue.open_queue(place.here.redis, jobs.EXPORTS).jobs[0]
    job.retries_left = 0
    job.save()
    place.work()
    assert place.look(view.id).state == "failed"
    assert "no answer" in place.look(view.id).message
    assert export_sweep.take_up(place.here.redis, place.here.now()) == []
    failing.refuses = set()
    assert place.ask("JSON").state == "queued"
    place.work()
    assert place.look(view.id).state == "complete"


def test_a_killed_worker_is_made_up_for_until_it_is_clear_that_it_dies_of_it(place: Workplace) -> None:
    view = place.ask("JSON")
    for _ in range(export_sweep.TAKES):
        killed(place, view.id)
        assert export_sweep.take_up(place.here.redis, place.here.now()) == [view.id]
    assert place.queued() == ["workers.export.run"]
    killed(place, view.id)
    assert export_sweep.take_up(place.here.redis, place.here.now()) == []
    failed = place.look(view.id)
    assert failed.state == "failed"
    assert "memory" in failed.message


def killed(place: Workplace, export_id: str) -> None:
    """As if a worker had begun it and died, its job with it, a while ago."""
    queue.open_queue(place.here.redis, jobs.EXPORTS).empty()
    request = registry.read_request(place.here.redis, export_id)
    assert request is not None
    note = json.loads(request.to_json()) | {"state": "running", "job_id": "gone"}
    registry.note(place.here.redis, export_id, registry.Request.from_json(json.dumps(note)))
    place.here.redis.delete(names.export_pending(export_id))


def test_what_waits_in_the_queue_is_not_enqueued_again(place: Workplace) -> None:
    view = place.ask("JSON")
    place.here.redis.delete(names.export_pending(view.id))
    assert export_sweep.take_up(place.here.redis, place.here.now()) == []
    assert place.queued() == ["workers.export.run"]


def test_another_worker_at_it_is_left_alone(place: Workplace) -> None:
    view = place.ask("JSON")
    place.here.redis.set(names.export_lock(view.id), "another")
    place.work()
    assert place.look(view.id).state == "queued"
    assert place.keys() == []


def test_a_format_that_does_not_fit_fails_at_once_and_says_what_it_needs(empty: Workplace) -> None:
    config = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
    stamp = Stamp(event_id="e", received_at=NOW, source="webhook", event="TEST")
    empty.append(put("project", PROJECT.data | {"label_config": config}, stamp))
    view = empty.ask("COCO")
    empty.work()
    failed = empty.look(view.id)
    assert failed.state == "failed"
    assert "<RectangleLabels>" in failed.message
    assert "<Choices>" in failed.message
    assert (
        queue.open_queue(empty.here.redis, jobs.EXPORTS).failed_job_registry.get_job_count(cleanup=False) == 1
    )
    with pytest.raises(SenderError, match="JSON or CSV"):
        export.run(UID, "COCO", "annotated", view_source(empty))


@pytest.mark.parametrize("format", ["JSON", "CSV", "COCO", "VOC"])
def test_an_empty_project_gives_a_valid_empty_export(empty: Workplace, format: str) -> None:
    empty.append(PROJECT)
    manifest = empty.made(format)
    assert (manifest.counts.tasks, manifest.counts.objects) == (0, 0)
    body = empty.file(manifest, manifest.files[0].name)
    if format == "JSON":
        assert json.loads(body) == []
    elif format == "CSV":
        assert len(body.decode().splitlines()) == 1
    else:
        assert "images/" in unzipped(body)


def test_a_project_that_the_bucket_does_not_know_is_said_so(empty: Workplace) -> None:
    with pytest.raises(NotFound, match="connect PROJECT"):
        empty.ask("JSON")


def test_a_baseline_that_is_not_complete_is_said(empty: Workplace) -> None:
    empty.append(*(r for r in RECORDS if r.event != BASELINE_COMPLETED))
    empty.here.redis.hset(names.baseline(UID), mapping={"state": "running", "done": 3, "total": 9})
    assert empty.made("JSON").baseline.text.startswith("3 of 9 tasks")


def test_a_converter_that_loses_a_box_makes_no_export(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from label_studio_sdk.converter import Converter

    def lossy(self: Any, label: Any) -> None:
        return None

    monkeypatch.setattr(Converter, "rotated_rectangle", lossy)
    place.ask("COCO")
    with pytest.raises(Corrupt, match="counted"):
        export.run(UID, "COCO", "annotated", view_source(place))
    assert place.keys() == []


@pytest.mark.parametrize("format", ["JSON", "CSV", "COCO", "VOC"])
def test_one_bad_region_costs_itself_only(place: Workplace, format: str) -> None:
    """Each of these stops the converter, or is lost in it without a word, when it is handed over as it is."""
    stamp = Stamp(event_id="e", received_at=NOW, source="webhook", event="TEST")
    size = {"original_width": 640, "original_height": 480}
    flat = {"x": 1, "y": 1, "width": 0, "height": 0, "rotation": 20, "rectanglelabels": ["Cat"]}
    bad = [
        "nonsense",
        {"from_name": "box", "to_name": "image", "type": "rectanglelabels"},
        {"from_name": "light", "to_name": "image", "type": "choices", "value": {}},
        {"from_name": "note", "to_name": "image", "type": "textarea", "value": {"text": ["half \ud83d"]}},
        {"from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": flat, **size},
        {"from_name": "poly", "to_name": "image", "value": {"points": [], "polygonlabels": ["Tree"]}, **size},
        {
            "from_name": "box",
            "to_name": "image",
            "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["Cat"]},
        },
    ]
    before = place.made(format).counts
    one = THEIRS["json"][0]["annotations"][0]
    place.append(
        put("annotation", one | {"id": 9999, "result": bad, "created_at": "2026-11-22T08:00:00Z"}, stamp)
    )
    after = place.made(format)
    assert after.counts.regions == before.regions + len(bad)
    fits = {"JSON": 7, "CSV": 4, "COCO": 1, "VOC": 1}[format]
    assert after.counts.regions_in_output == before.regions_in_output + fits


# --- triggers


def test_after_every_so_many_annotations_an_export_is_asked_for(empty: Workplace) -> None:
    connection = empty.here.redis
    asked = [export_sweep.count_annotations(connection, UID, made, 5) for made in (2, 2, 2, 3, 0, 1, 12)]
    assert asked == [False, False, True, False, False, True, True]
    assert empty.queued() == ["workers.export.trigger"] * 3
    assert not export_sweep.count_annotations(connection, UID, 100, 0)


def test_a_trigger_asks_for_each_format_of_the_settings(place: Workplace) -> None:
    export.trigger(UID, "5 annotations")
    place.work()
    (view,) = registry.listed(place.here.redis, place.here.store, place.layout)
    assert (view.format, view.state, view.asked_by) == ("JSON", "complete", "5 annotations")


def test_the_cron_line_asks_once_for_each_time_and_makes_up_for_one_that_was_missed(empty: Workplace) -> None:
    connection = empty.here.redis
    line = "*/10 * * * *"
    begin = datetime(2026, 11, 22, 8, 1, tzinfo=UTC)

    def ask(minutes: float) -> list[str]:
        return export_sweep.ask_by_cron(connection, line, begin + timedelta(minutes=minutes))

    assert [ask(0), ask(5), ask(9.1), ask(9.2), ask(60), ask(61)] == [[], [], [UID], [], [UID], []]
    assert empty.queued() == ["workers.export.trigger"] * 2
