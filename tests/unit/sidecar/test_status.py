"""What status says, with everything up and with each neighbour down."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import click
import pytest

from bridge.edges import redis as names
from bridge.edges.stream import CONTROL, Entry
from bridge.errors import NotFound, Unavailable
from bridge.records import format_time
from sidecar import show
from sidecar.connect import connect_steps
from sidecar.gather import gather, project_by_id
from sidecar.plan import wanted
from sidecar.quarantine import Line, newest, one
from sidecar.status import Baseline, Status, baseline_of, project_status, status
from tests.unit.sidecar.fakes import UID, World

NOW = datetime.now(UTC)


def connected() -> World:
    from sidecar.apply import carry_out

    world = World()
    project = project_by_id(world.clients.label_studio, 3)
    want = wanted(world.settings, 3)
    found = gather(world.clients, project, want, check=True)
    list(carry_out(connect_steps(want, found, project), world.clients, project))
    return world


def entry_fields(body: bytes = b"{}", **more: bytes) -> dict[bytes, bytes]:
    entry = Entry(event_id="e", received_at=NOW, source="webhook", action="?", body=body)
    return {name.encode(): value for name, value in (entry.to_fields() | more).items()}


def wait(world: World, uid: str, *, for_s: float, entries: int = 1) -> None:
    """Put entries into a project's stream that have waited so long."""
    ms = int((datetime.now(UTC) - timedelta(seconds=for_s)).timestamp() * 1000)
    world.redis.data[names.stream(uid)] = [(f"{ms}-{n}".encode(), entry_fields()) for n in range(entries)]
    world.redis.sadd(names.STREAMS, uid)


def text(found: Status) -> str:
    return "\n".join(click.unstyle(line) for line in show.status_lines(found))


def test_a_connected_project_is_ok_in_every_part() -> None:
    found = status(connected().clients)
    (project,) = found.projects
    assert found.ok
    assert (project.connected, project.webhook, project.ml_backend, project.storage) == (
        True,
        "ok",
        "ok",
        "ok",
    )
    assert (project.waiting, project.lag_s, project.trouble) == (0, 0.0, "")


def test_a_project_that_was_never_connected_costs_label_studio_nothing_more() -> None:
    world = World()
    world.studio.refuse |= {"GET /api/ml": "asked", "GET /api/storages/s3": "asked"}
    (project,) = status(world.clients).projects
    assert (project.connected, project.webhook, project.ml_backend) == (False, "missing", None)
    assert "not connected" in text(status(world.clients))


def test_drift_is_named() -> None:
    world = connected()
    (hook,) = world.studio.rows["webhooks"].values()
    hook["is_active"] = False
    (ml,) = world.studio.rows["ml"].values()
    ml |= {"state": "ER", "readable_state": "Error"}
    (storage,) = world.studio.rows["s3"].values()
    storage["presign"] = True
    project = project_status(world.clients, project_by_id(world.clients.label_studio, 3))
    assert not project.connected
    assert project.webhook == "drifted: switched off"
    assert project.ml_backend == "drifted: it is Error"
    assert project.storage == "drifted: presigned addresses"


def test_an_ml_backend_before_ours_is_drift() -> None:
    world = connected()
    world.studio.rows["ml"][0] = {"id": 0, "project": 3, "url": "http://other:9090", "title": "Other"}
    (project,) = status(world.clients).projects
    assert project.ml_backend is not None
    assert "another ML backend is first" in project.ml_backend


def test_how_many_events_wait_and_for_how_long() -> None:
    world = connected()
    wait(world, UID, for_s=30, entries=2)
    wait(world, CONTROL, for_s=1)
    world.redis.set(names.trouble(UID), "there is no bucket")
    found = status(world.clients)
    (project,) = found.projects
    assert project.waiting == 2
    assert project.lag_s is not None
    assert 30 <= project.lag_s < 90
    assert found.unassigned_waiting == 1
    assert "events do not reach the bucket: there is no bucket" in text(found)


def test_a_project_that_label_studio_does_not_list_is_shown_from_its_record() -> None:
    world = connected()
    wait(world, "8.1700000000", for_s=1)
    gone = status(world.clients).projects[-1]
    assert (gone.uid, gone.id, gone.title, gone.waiting) == ("8.1700000000", 8, None, 1)
    assert "no such project" in gone.webhook


def test_the_baseline_is_read_from_what_the_worker_keeps() -> None:
    fields = {b"state": b"running", b"done": b"40", b"total": b"120", b"message": b"connect"}
    assert baseline_of(fields) == Baseline(state="running", done=40, total=120, message="connect")
    assert show.baseline_words(baseline_of(fields)) == "running 40 of 120"


def test_a_forgotten_baseline_is_unknown_and_says_what_to_do() -> None:
    world = connected()
    world.redis.data.pop(names.baseline(UID))
    assert "baseline unknown; run `python -m sidecar connect 3`" in text(status(world.clients))


# --- one neighbour down


def test_without_redis_the_rest_is_shown() -> None:
    world = connected()
    world.redis.down = True
    found = status(world.clients)
    (project,) = found.projects
    assert (project.webhook, project.baseline, project.waiting) == ("ok", None, None)
    assert (found.ok, found.quarantine) == (False, None)
    assert "no answer from Redis at redis:6379/0" in text(found)


def test_without_label_studio_what_redis_knows_is_shown() -> None:
    world = connected()
    wait(world, UID, for_s=5)
    world.studio.down = True
    found = status(world.clients)
    (project,) = found.projects
    assert (project.webhook, project.waiting) == ("unknown", 1)
    assert "Label Studio  down:" in text(found)
    assert [project.uid for project in status(world.clients, 3).projects] == [UID]
    assert status(world.clients, 4).projects == []


def test_without_the_bucket_the_rest_is_shown() -> None:
    world = connected()
    world.bucket_error = Unavailable("no answer from the object store")
    found = status(world.clients)
    assert [neighbour.name for neighbour in found.neighbours if not neighbour.ok] == ["bucket"]
    assert found.projects[0].webhook == "ok"


# --- showing


def test_the_table_fits_a_hundred_columns() -> None:
    world = connected()
    world.studio.rows["projects"][3]["title"] = "Every animal of the reserve, all seasons, all cameras"
    world.redis.hset(names.baseline(UID), mapping={"state": "running", "done": 123456, "total": 1234567})
    wait(world, UID, for_s=98765, entries=9)
    lines = text(status(world.clients)).splitlines()
    assert max(map(len, lines)) <= 100


def test_status_as_json_has_what_the_table_has() -> None:
    found = json.loads(json.dumps(status(connected().clients).to_json()))
    assert found["projects"][0]["uid"] == UID
    assert found["projects"][0]["baseline"]["state"] == "queued"


# --- the quarantine


def quarantined(body: bytes) -> World:
    world = World()
    world.redis.data[names.QUARANTINE] = [(b"1-0", entry_fields(body, reason=b"the body is not JSON"))]
    return world


def test_the_quarantine_is_listed_without_bodies() -> None:
    items = newest(quarantined(b'{"token": "secret"').clients)
    line = Line.of(items[0])
    assert (line.id, line.reason, line.size_bytes) == ("1-0", "the body is not JSON", 18)
    assert "secret" not in json.dumps(line.to_json())
    assert line.to_json()["received_at"].startswith(format_time(NOW)[:19])


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"token": "abc", "id": 1', '{"token": "***", "id": 1'),
        (b'{"task_data_password":"a\\"b","x":2', '{"task_data_password":"***","x":2'),
        (b'{"access_token": "cut o', '{"access_token": "***"'),  # the body ended inside the secret
        (
            b"\xff\x00\x1b[31mred",
            "\N{REPLACEMENT CHARACTER}" * 3 + "[31mred",
        ),  # nothing that steers a terminal
        (b"x" * 5000, "x" * 4000 + "\n… 1000 more bytes"),
    ],
)
def test_a_body_is_shown_without_secrets_and_control_characters(body: bytes, shown: str) -> None:
    assert show.body_text(one(quarantined(body).clients, "1-0").entry.body) == shown


def test_an_unknown_entry_says_how_to_list_them() -> None:
    with pytest.raises(NotFound, match="quarantine list"):
        one(quarantined(b"").clients, "9-9")
