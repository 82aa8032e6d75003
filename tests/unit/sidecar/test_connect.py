"""Connecting, on a Label Studio in memory: the plan, its carrying out, and that a second one has nothing to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.edges import redis as names
from bridge.errors import NotFound, SenderError
from bridge.events import PROJECT_HOOK_ACTIONS, SECRET_HEADER
from sidecar.apply import Outcome, carry_out, failed
from sidecar.connect import connect_steps, disconnect_steps
from sidecar.gather import find_project, gather, project_by_id
from sidecar.plan import (
    BASELINE,
    ML_BACKEND,
    ML_TITLE,
    STORAGE,
    WEBHOOK,
    Call,
    Fine,
    Found,
    Note,
    Step,
    wanted,
)
from sidecar.sync import sync
from tests.unit.sidecar.fakes import UID, World


def connect(world: World, *, dry_run: bool = False, baseline: bool | None = None) -> list[Outcome]:
    clients = world.clients
    project = project_by_id(clients.label_studio, 3)
    found = gather(clients, project, wanted(world.settings, 3), check=True, dry_run=dry_run)
    steps = connect_steps(wanted(world.settings, 3), found, project, baseline=baseline)
    return list(carry_out(steps, clients, project, dry_run=dry_run))


def disconnect(world: World, *, remove_storage: bool = False) -> list[Outcome]:
    clients = world.clients
    project = project_by_id(clients.label_studio, 3)
    want = wanted(world.settings, 3)
    found = gather(clients, project, want, check=False)
    return list(carry_out(disconnect_steps(want, found, remove_storage=remove_storage), clients, project))


def connected(**environ: str) -> World:
    world = World(**environ)
    assert not failed(connect(world))
    world.studio.changes.clear()
    world.enqueued.clear()
    return world


def of(outcomes: list[Outcome], part: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.part == part]


# --- the first time


def test_a_first_connect_registers_everything_and_starts_the_baseline() -> None:
    world = World()
    outcomes = connect(world)
    assert [outcome.part for outcome in outcomes] == [WEBHOOK, ML_BACKEND, ML_BACKEND, STORAGE, BASELINE]
    assert {outcome.result for outcome in outcomes} == {"done"}
    (hook,) = world.studio.rows["webhooks"].values()
    assert hook["url"] == "http://sidecar:9100/webhook"
    assert hook["headers"] == {SECRET_HEADER: "secret-of-the-webhook"}
    assert hook["actions"] == list(PROJECT_HOOK_ACTIONS)
    assert hook["send_payload"] is True
    # All actions would include LABEL_LINK_CREATED, with which Label Studio answers 500 to a new label.
    assert hook["send_for_all_actions"] is False
    (ml,) = world.studio.rows["ml"].values()
    assert (ml["auth_method"], ml["basic_auth_user"]) == ("BASIC_AUTH", "bridge")
    (storage,) = world.studio.rows["s3"].values()
    assert storage["presign"] is False
    assert storage["use_blob_urls"] is True
    assert [job.name for job in world.enqueued] == ["workers.baseline.run"]
    assert world.redis.smembers(names.WANTED) == {UID.encode()}


def test_a_dry_run_changes_nothing() -> None:
    world = World()
    outcomes = connect(world, dry_run=True)
    assert {outcome.result for outcome in outcomes} == {"planned"}
    assert (world.studio.changes, world.enqueued, world.redis.data) == ([], [], {})


def test_a_second_connect_changes_nothing() -> None:
    world = connected()
    assert {outcome.result for outcome in connect(world)} == {"kept"}
    assert (world.studio.changes, world.enqueued) == ([], [])


def test_without_an_ml_backend_one_is_not_registered_and_that_is_said() -> None:
    world = World(ML_BACKEND_URL="")
    (said,) = of(connect(world), ML_BACKEND)
    assert said.result == "note"
    assert "ML_BACKEND_URL" in said.text
    assert world.studio.rows["ml"] == {}


def test_an_ml_backend_without_password_is_registered_without_one() -> None:
    world = World(BASIC_AUTH_USER="", BASIC_AUTH_PASS="")
    world.studio.ml_password = ""
    assert not failed(connect(world))
    (ml,) = world.studio.rows["ml"].values()
    assert ml["auth_method"] == "NONE"
    assert "basic_auth_pass" not in ml


def test_interactive_use_is_switched_on_where_it_is_wanted_and_otherwise_left_as_people_chose() -> None:
    def row(world: World) -> dict[str, Any]:
        (ml,) = world.studio.rows["ml"].values()
        return ml

    world = connected()
    assert not row(world).get("is_interactive")
    row(world).update(is_interactive=True, state="ER", readable_state="Error")
    assert not failed(connect(world))
    assert row(world)["is_interactive"]
    wanted = connected(ML_INTERACTIVE="yes")
    assert row(wanted)["is_interactive"]
    row(wanted)["is_interactive"] = False
    assert any("not interactive" in said.text for said in of(connect(wanted), ML_BACKEND))
    assert row(wanted)["is_interactive"]


def test_label_studio_is_told_the_address_of_the_store_that_it_can_reach() -> None:
    world = connected(LABEL_STUDIO_S3_URL="http://store.inside:9000")
    (storage,) = world.studio.rows["s3"].values()
    assert storage["s3_endpoint"] == "http://store.inside:9000"


def test_an_empty_place_for_pictures_is_no_failure() -> None:
    world = World()
    world.store.delete("images/cat.jpg")
    outcomes = connect(world)
    assert not failed(outcomes)
    (said,) = of(outcomes, STORAGE)
    assert said.result == "note"
    assert "put pictures there and connect again" in said.text


def test_the_record_is_never_registered_as_pictures() -> None:
    world = World(BUCKET_PREFIX="images")
    (said,) = of(connect(world), STORAGE)
    assert said.result == "note"
    assert world.studio.rows["s3"] == {}


# --- drift

HOOK_DRIFTS: dict[str, dict[str, Any]] = {
    "switched off": {"is_active": False},
    "payload off": {"send_payload": False},
    "other actions": {"actions": ["TASKS_CREATED"]},
    "all actions": {"send_for_all_actions": True},
    "old secret": {"headers": {SECRET_HEADER: "an old one"}},
    "other address": {"url": "http://old-sidecar:9100/webhook"},
}
ML_DRIFTS: dict[str, dict[str, Any]] = {
    "other address": {"url": "http://old-ml:9090"},
    "no auth": {"auth_method": "NONE"},
    "other user": {"basic_auth_user": "someone"},
    "no password": {"basic_auth_pass_is_set": False},
    "disconnected": {"state": "DI", "readable_state": "Disconnected"},
    "error": {"state": "ER", "readable_state": "Error"},
}
STORAGE_DRIFTS: dict[str, dict[str, Any]] = {
    "presigned": {"presign": True},
    "files are tasks": {"use_blob_urls": False},
    "other expression": {"regex_filter": ".*"},
    "other prefix": {"prefix": "elsewhere"},
    "other endpoint": {"s3_endpoint": "http://old-store:9000"},
    "old keys": {"aws_secret_access_key": "an old one"},
}
DRIFTS = {
    **{f"webhook: {name}": ("webhooks", fields) for name, fields in HOOK_DRIFTS.items()},
    **{f"ml: {name}": ("ml", fields) for name, fields in ML_DRIFTS.items()},
    **{f"storage: {name}": ("s3", fields) for name, fields in STORAGE_DRIFTS.items()},
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_what_has_drifted_is_repaired_in_place(drift: str) -> None:
    world = connected()
    kind, fields = DRIFTS[drift]
    ((id, row),) = world.studio.rows[kind].items()
    before = dict(row)
    row.update(fields)
    assert not failed(connect(world))
    assert world.studio.rows[kind] == {id: before}


@given(
    drifts=st.lists(st.sampled_from(sorted(DRIFTS)), unique=True),
    copies=st.sets(st.sampled_from(["webhooks", "ml"])),
)
def test_after_any_drift_one_connect_is_enough(drifts: list[str], copies: set[str]) -> None:
    world = connected()
    for kind in copies:
        (row,) = world.studio.rows[kind].values()
        world.studio.add(kind, **{name: value for name, value in row.items() if name != "id"})
    for name in drifts:
        kind, fields = DRIFTS[name]
        world.studio.rows[kind][min(world.studio.rows[kind])].update(fields)
    # A webhook with another secret at another address cannot be told from another sidecar's: it is left.
    if {"webhook: old secret", "webhook: other address"} <= set(drifts):
        return
    assert not failed(connect(world))
    world.studio.changes.clear()
    assert {outcome.result for outcome in connect(world)} == {"kept"}
    assert world.studio.changes == []
    assert [len(world.studio.rows[kind]) for kind in ("webhooks", "ml", "s3")] == [1, 1, 1]
    assert world.studio.rows["projects"][3]["model_version"] == ML_TITLE


def test_a_repaired_webhook_keeps_the_headers_that_people_added() -> None:
    world = connected()
    (hook,) = world.studio.rows["webhooks"].values()
    hook["headers"] = {SECRET_HEADER: "old", "X-Proxy": "1"}
    connect(world)
    (hook,) = world.studio.rows["webhooks"].values()
    assert hook["headers"] == {SECRET_HEADER: "secret-of-the-webhook", "X-Proxy": "1"}


def test_another_sidecars_webhook_is_left_alone() -> None:
    world = connected()
    other = world.studio.add("webhooks", url="http://other:9100/webhook", headers={SECRET_HEADER: "theirs"})
    connect(world)
    assert other["id"] in world.studio.rows["webhooks"]


def test_the_webhook_that_label_studio_adds_to_the_ml_backend_is_removed_again() -> None:
    world = connected()
    world.studio.add("webhooks", url="http://ml:9090/webhook", headers={}, send_for_all_actions=True)
    connect(world)
    assert [hook["url"] for hook in world.studio.rows["webhooks"].values()] == ["http://sidecar:9100/webhook"]


def test_an_ml_backend_before_ours_is_named_since_label_studio_uses_the_first() -> None:
    world = World()
    world.studio.add("ml", url="http://other:9090", title="Other")
    notes = [outcome.text for outcome in connect(world) if outcome.result == "note"]
    assert any("only the first ML backend" in text and "'Other'" in text for text in notes)


def test_a_choice_of_other_predictions_is_respected_and_said() -> None:
    world = World()
    world.studio.rows["projects"][3]["model_version"] = "imported-v1"
    notes = [outcome.text for outcome in connect(world) if outcome.result == "note"]
    assert any("'imported-v1'" in text for text in notes)
    assert world.studio.rows["projects"][3]["model_version"] == "imported-v1"


def test_pre_labels_that_are_switched_off_are_said() -> None:
    world = World()
    world.studio.rows["projects"][3]["show_collab_predictions"] = False
    notes = [outcome.text for outcome in connect(world) if outcome.result == "note"]
    assert any("switched off" in text for text in notes)


def test_a_second_import_storage_on_the_same_pictures_is_named_not_removed() -> None:
    world = connected()
    (storage,) = world.studio.rows["s3"].values()
    copy = world.studio.add("s3", **{name: value for name, value in storage.items() if name != "id"})
    (_, said) = of(connect(world), STORAGE)
    assert said.result == "note"
    assert str(copy["id"]) in said.text
    assert len(world.studio.rows["s3"]) == 2


# --- failures


@pytest.mark.parametrize(
    ("call", "part", "said", "advice"),
    [
        ("POST /api/webhooks/", WEBHOOK, "Can't resolve hostname sidecar", "SIDECAR_URL"),
        ("POST /api/webhooks/", WEBHOOK, "reserved network address (USE_DEFAULT…)", "USE_DEFAULT"),
        ("POST /api/ml", ML_BACKEND, "Can't connect, health check failed", "ML_BACKEND_URL"),
        ("POST /api/ml", ML_BACKEND, "authentication parameters are incorrect", "BASIC_AUTH_PASS"),
        ("POST /api/ml", ML_BACKEND, "doesn't look like a valid ML backend", "log"),
        ("POST /api/storages/s3", STORAGE, "Debugging info is not available", "LABEL_STUDIO_S3_URL"),
    ],
)
def test_a_failed_step_costs_only_itself_and_says_what_to_do(
    call: str, part: str, said: str, advice: str
) -> None:
    world = World()
    world.studio.refuse[call] = said
    outcomes = connect(world)
    (bad,) = failed(outcomes)
    assert bad.part == part
    assert advice in bad.detail
    assert {outcome.result for outcome in outcomes if outcome.part != part} == {"done"}


def test_a_missing_bucket_is_named_though_label_studio_hides_it() -> None:
    world = World()
    world.studio.refuse["POST /api/storages/s3"] = "Debugging info is not available"
    world.bucket_error = NotFound("there is no bucket 'pictures'", hint="create it, or correct BUCKET")
    (bad,) = failed(connect(world))
    assert "there is no bucket 'pictures' (create it, or correct BUCKET)" in bad.detail


def test_a_part_that_cannot_be_read_costs_only_itself() -> None:
    world = World()
    world.studio.refuse["GET /api/ml"] = "500 a bug"
    outcomes = connect(world)
    assert [outcome.part for outcome in failed(outcomes)] == [ML_BACKEND]
    assert {outcome.result for outcome in outcomes if outcome.part != ML_BACKEND} == {"done"}


def test_without_redis_everything_but_the_baseline_is_done() -> None:
    world = World()
    world.redis.down = True
    (bad,) = failed(connect(world))
    assert bad.part == BASELINE
    assert "REDIS_URL" in bad.detail


def test_nothing_that_is_shown_holds_a_secret() -> None:
    world = World()
    want = wanted(world.settings, 3)
    project = project_by_id(world.clients.label_studio, 3)
    steps: list[Step] = connect_steps(want, Found(), project)
    shown = repr([steps, want, *connect(world, dry_run=True), *connect(world)])
    assert "secret-" not in shown.replace("secret-access-id", "")


# --- the baseline


@pytest.mark.parametrize(
    ("state", "hook_was_fine", "asked", "enqueued", "result"),
    [
        ("", True, None, 1, "done"),  # Redis has forgotten it
        ("queued", True, None, 0, "kept"),
        ("running", True, None, 0, "kept"),
        ("running", False, None, 1, "done"),  # once more after it: it may have passed what was missed
        ("complete", True, None, 0, "kept"),
        ("complete", False, None, 1, "done"),  # events may have been missed
        ("complete", True, True, 1, "done"),
        ("complete", False, False, 0, "note"),
        ("failed", True, None, 1, "done"),
        ("stopped", True, None, 1, "done"),
    ],
)
def test_the_baseline_is_read_when_something_may_be_missing(
    state: str, hook_was_fine: bool, asked: bool | None, enqueued: int, result: str
) -> None:
    world = connected()
    world.redis.hset(names.baseline(UID), mapping={"state": state})
    if not hook_was_fine:
        world.studio.rows["webhooks"].clear()
    (outcome,) = of(connect(world, baseline=asked), BASELINE)
    assert (len(world.enqueued), outcome.result) == (enqueued, result)
    if state == "running":
        assert world.redis.hget(names.baseline(UID), "state") == b"running"


# --- disconnecting and syncing


def test_disconnect_undoes_connect() -> None:
    world = connected()
    assert not failed(disconnect(world))
    assert [world.studio.rows[kind] for kind in ("webhooks", "ml", "s3")] == [{}, {}, {}]
    assert world.redis.smembers(names.WANTED) == set()
    assert world.redis.hget(names.baseline(UID), "state") == b"stopped"
    assert {outcome.result for outcome in disconnect(world) if outcome.part != BASELINE} == {"kept"}


def test_an_import_storage_that_made_tasks_stays_unless_told() -> None:
    world = connected()
    sync(world.clients, project_by_id(world.clients.label_studio, 3))
    (said,) = of(disconnect(world), STORAGE)
    assert said.result == "note"
    assert len(world.studio.rows["s3"]) == 1
    disconnect(world, remove_storage=True)
    assert world.studio.rows["s3"] == {}


def test_sync_tells_how_many_tasks_came_and_are() -> None:
    world = connected()
    project = project_by_id(world.clients.label_studio, 3)
    sync(world.clients, project)
    done = sync(world.clients, project)
    assert (done.new, done.tasks) == (2, 4)


def test_sync_without_a_storage_says_to_connect_first() -> None:
    world = World()
    with pytest.raises(NotFound, match=r"sidecar connect 3"):
        sync(world.clients, project_by_id(world.clients.label_studio, 3))


# --- finding the project


def test_a_project_is_found_by_id_and_by_title() -> None:
    world = World()
    assert find_project(world.clients.label_studio, "3").title == "Animals"
    assert find_project(world.clients.label_studio, "animals").uid == UID


def test_a_number_that_is_no_id_may_be_a_title() -> None:
    world = World()
    world.studio.add_project(4, "2026")
    assert find_project(world.clients.label_studio, "2026").id == 4


def test_an_ambiguous_title_lists_the_ids() -> None:
    world = World()
    world.studio.add_project(9, "Animals")
    with pytest.raises(SenderError, match=r"one of 3, 9"):
        find_project(world.clients.label_studio, "Animals")


def test_an_unknown_project_says_where_to_look() -> None:
    with pytest.raises(NotFound, match="sidecar status"):
        find_project(World().clients.label_studio, "Plants")


def test_a_second_plan_is_made_of_values_that_do_nothing() -> None:
    world = connected()
    project = project_by_id(world.clients.label_studio, 3)
    want = wanted(world.settings, 3)
    steps = connect_steps(want, gather(world.clients, project, want, check=True), project)
    assert all(isinstance(step, Fine | Note) for step in steps)
    assert not any(isinstance(step, Call) for step in steps)
