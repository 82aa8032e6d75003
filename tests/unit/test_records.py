"""Records: what is kept of a payload, what counts as its content, and the line format."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.events import records_of
from bridge.readings import of_items, of_storages, of_tasks
from bridge.records import (
    KINDS,
    Record,
    Stamp,
    canonical,
    clean,
    content_hash,
    delete,
    format_time,
    parse_time,
    put,
    superseding,
)
from tests.conftest import sample
from tests.fakes import at, record

STAMP = Stamp(event_id="e-1", received_at=at(10), source="webhook", event="ANNOTATION_CREATED")
READ = Stamp(event_id="e-2", received_at=at(21), source="baseline", event="BASELINE", observed_at=at(20))

moments = st.integers(min_value=0, max_value=3652057 * 86400 * 10**6).map(
    lambda microseconds: datetime(1, 1, 2, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
# Any text, halves of emojis too: browsers cut texts where they like.
texts = st.text(st.characters(codec=None, exclude_categories=[]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


# --- the line format


@given(
    st.builds(
        Record,
        kind=st.sampled_from(KINDS),
        op=st.sampled_from(["put", "delete"]),
        id=texts,
        created_at=st.none() | moments,
        version=st.none() | moments,
        event_id=texts,
        received_at=moments,
        observed_at=st.none() | moments,
        source=st.sampled_from(["webhook", "baseline", "reconcile", "restore", "ml_backend", "media"]),
        event=texts,
        data=st.dictionaries(texts, values, max_size=4),
    )
)
def test_a_record_is_read_back_from_its_line(made: Record) -> None:
    line = made.to_json()
    assert b"\n" not in line.encode()  # and it is UTF-8
    again = Record.from_json(line.encode())
    assert again == made
    assert again.to_json() == line
    assert again.hash == made.hash


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not JSON",
        "[]",
        "null",
        '"a text"',
        "{}",
        record().to_json().replace('"annotation"', '"an not"'),  # no kind of any version
        record().to_json().replace('"put"', '""'),  # no op of any version
        record().to_json().replace('"put"', '["put"]'),
        record().to_json().replace('"webhook"', "null"),
        record().to_json().replace('"id":"1"', '"id":1'),  # ids are texts
        record().to_json().replace("06:00:10", "a quarter past"),  # no time
        record().to_json().replace("000000Z", "000000"),  # times without a zone
    ],
)
def test_a_line_that_is_no_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one too
        Record.from_json(line)


NEWER = {
    "a kind we do not know": record().to_json().replace('"annotation"', '"relation"'),
    "an op we do not know": record().to_json().replace('"put"', '"patch"'),
    "another meaning of the fields": record().to_json().replace('"id":"1"', '"id":"1","format":2'),
    "other fields altogether": json.dumps(
        {"kind": "relation", "op": "link", "id": "1", "received_at": "2026-11-22T06:00:10Z", "ends": [1, 2]}
    ),
}


@pytest.mark.parametrize("line", NEWER.values(), ids=NEWER)
def test_a_record_from_a_newer_version_is_kept_as_it_is(line: str) -> None:
    found = Record.from_json(line)
    assert not found.understood
    assert json.loads(found.to_json()) == json.loads(line)
    assert found.received_at == at(10)


def test_a_field_from_a_newer_version_is_kept_and_does_no_harm() -> None:
    line = record(result=["A"]).to_json().replace('"id":"1"', '"id":"1","mood":"glad"', 1)
    found = Record.from_json(line)
    assert found.understood
    assert json.loads(found.to_json()) == json.loads(line)
    assert found.hash == record(result=["A"]).hash


@pytest.mark.parametrize("field", ["kind", "id", "received_at"])
def test_what_lacks_the_fields_of_every_version_is_no_record(field: str) -> None:
    fields = json.loads(NEWER["other fields altogether"])
    del fields[field]
    with pytest.raises(ValueError, match="not a record"):
        Record.from_json(json.dumps(fields))


def test_a_line_keeps_what_people_wrote_readable() -> None:
    assert "Étoile ★" in record(text="Étoile ★").to_json()


# --- times


@given(moments)
def test_a_time_is_read_back_from_its_text(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment
    assert len(format_time(moment)) == len("2026-11-22T06:00:00.000000Z")


@given(moments, moments)
def test_the_order_of_texts_is_the_order_of_times(one: datetime, other: datetime) -> None:
    assert (format_time(one) < format_time(other)) == (one < other)


def test_a_time_with_another_zone_becomes_utc() -> None:
    assert parse_time("2026-11-22T07:00:00+01:00") == at(0)
    assert parse_time(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-11-22T06:00:00",  # no zone
        "2026-13-01T00:00:00Z",  # no such month
        "0001-01-01T00:00:00+05:00",  # before year 1 in UTC
        "9999-12-31T23:59:59-05:00",  # after year 9999 in UTC
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - datetime's own words
        parse_time(text)


# --- content


def same_things() -> dict[tuple[str, str, str], dict[str, list[Record]]]:
    """Everything seen in one small project by webhook, /api/tasks and export: versions by (kind, id, version)."""
    found: dict[tuple[str, str, str], dict[str, list[Record]]] = {}

    def see(way: str, made: list[Record]) -> None:
        for one in made:
            key = (one.kind, one.id, str(one.version))
            found.setdefault(key, {}).setdefault(way, []).append(one)

    for body in sample("api_received_webhooks"):
        see("webhook", records_of(json.dumps(body).encode(), event_id="e", received_at=at(0)))
    see("api", of_tasks(sample("api_tasks")["tasks"], [], READ).records)
    exported = [task | {"predictions": []} for task in sample("api_export")]
    see("export", of_tasks(exported, exported, READ).records)
    return found


def test_a_thing_has_one_hash_whether_by_webhook_api_or_export() -> None:
    ways_of_kind: dict[str, set[str]] = {}
    for (kind, id, version), ways in same_things().items():
        hashes = {one.hash for seen in ways.values() for one in seen}
        assert len(hashes) == 1, (kind, id, version, ways)
        ways_of_kind[kind] = ways_of_kind.get(kind, set()) | (set(ways) if len(ways) > 1 else set())
    # The comparison compared something.
    assert ways_of_kind["annotation"] == {"webhook", "api", "export"}
    assert ways_of_kind["task"] == {"webhook", "api", "export"}
    assert ways_of_kind["draft"] == {"api", "export"}


def test_a_project_has_one_hash_by_webhook_and_api() -> None:
    last = sample("api_received_webhooks")[-1]["project"]
    assert content_hash("project", clean("project", last)) == content_hash(
        "project", clean("project", sample("api_project"))
    )


def test_every_revision_has_a_hash_of_its_own() -> None:
    versions = [key for key in same_things() if key[:2] == ("annotation", "8")]
    hashes = {one.hash for key in versions for seen in same_things()[key].values() for one in seen}
    assert len(versions) == len(hashes) == 2


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        # What changes by itself, or is a counter or a word for the screen, is no content.
        ("task", {"total_annotations": 5, "cancelled_annotations": 1, "is_labeled": True, "updated_by": [1]}),
        ("task", {"overlap": 3, "comment_count": 2, "updated_at": "2030-01-01T00:00:00Z"}),
        ("task", {"annotations": [1], "predictions": [2], "drafts": [3], "avg_lead_time": 1.5}),
        ("annotation", {"created_ago": "2 minutes", "created_username": "a", "updated_by": 4}),
        ("annotation", {"unique_id": "u", "result_count": 9, "prediction": {}, "last_action": "submitted"}),
        ("project", {"control_weights": {"a": 1}, "parsed_label_config": {}, "label_config_hash": 7}),
        (
            "project",
            {"task_number": 8, "num_tasks_with_annotations": 3, "updated_at": "2030-01-01T00:00:00Z"},
        ),
        ("user", {"last_activity": "2030-01-01T00:00:00Z", "avatar": "/a.png"}),
        ("storage", {"last_sync": "2030-01-01T00:00:00Z", "status": "completed", "meta": {"n": 1}}),
        ("ml_backend", {"state": "ER", "error_message": "no answer", "updated_at": "2030-01-01T00:00:00Z"}),
        # Absent, null and an empty meta are one.
        ("task", {"meta": {}}),
        ("annotation", {"import_id": None, "parent_prediction": None}),
        # People come as an object or as an id.
        ("annotation", {"completed_by": {"id": 1, "email": "a@example.com"}}),
    ],
)
def test_what_is_no_content_changes_no_hash(kind: str, changed: dict[str, Any]) -> None:
    base: dict[str, Any] = {"id": 1, "completed_by": 1} if kind == "annotation" else {"id": 1}
    assert content_hash(kind, clean(kind, base | changed)) == content_hash(kind, clean(kind, base))


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("task", {"data": {"image": "b"}}),
        ("task", {"meta": {"k": 1}}),
        ("annotation", {"result": [1]}),
        ("annotation", {"was_cancelled": True}),
        ("annotation", {"ground_truth": True}),
        ("annotation", {"lead_time": 2.5}),
        ("annotation", {"completed_by": 2}),
        ("annotation", {"task": 9}),  # moved by remove_duplicates
        ("prediction", {"score": 0.5}),
        ("draft", {"result": [1]}),
        ("project", {"label_config": "<View/>"}),
        ("user", {"email": "b@example.com"}),
    ],
)
def test_what_is_content_changes_the_hash(kind: str, changed: dict[str, Any]) -> None:
    assert content_hash(kind, clean(kind, {"id": 1} | changed)) != content_hash(kind, clean(kind, {"id": 1}))


def test_one_number_has_one_text() -> None:
    assert canonical({"b": 1.0, "a": [2.50]}) == canonical({"a": [2.5], "b": 1}) == b'{"a":[2.5],"b":1}'
    assert canonical(True) != canonical(1)
    assert canonical(0.1) != canonical(0)


# --- secrets

SECRETS = (
    "recorded-invite-token",
    "a-project-invite-token",
    "a-task-data-password",
    "a-webhook-secret",
    "not-a-real-secret-key",
    "not-a-real-password",
    "AKIAEXAMPLE",
)


def test_no_secret_of_an_api_answer_reaches_a_record() -> None:
    hooks, backends = sample("api_webhooks"), sample("api_ml_backends")
    assert "a-webhook-secret" in json.dumps(hooks)  # so there is something to lose
    storages = sample("api_storages")
    for item in storages["import"] + storages["export"]:
        item |= {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "not-a-real-secret-key"}
    project = sample("api_project") | {"token": "a-project-invite-token"}
    project |= {"task_data_password": "a-task-data-password", "task_data_login": "login"}
    backends[0] |= {"basic_auth_pass": "not-a-real-password"}
    made = [
        *of_items("webhook", hooks, READ).records,
        *of_items("ml_backend", backends, READ).records,
        *of_storages("import", "s3", storages["import"], READ).records,
        *of_items("project", [project], READ).records,
    ]
    text = "".join(one.to_json() for one in made)
    assert len(made) == 5
    for secret in SECRETS:
        assert secret not in text
    assert "task_data_login" not in text


@pytest.mark.parametrize("kind", ["webhook", "ml_backend"])
def test_credentials_inside_an_address_are_left_out(kind: str) -> None:
    kept = clean(kind, {"id": 1, "url": "https://user:hush@example.com:8443/hook?key=hush#hush"})
    assert kept["url"] == "https://example.com:8443/hook"
    assert clean(kind, {"id": 1, "url": "http://[broken"})["url"] == ""


# --- making records


def test_a_put_takes_its_version_from_label_studio() -> None:
    data = {"id": 5, "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:05Z", "result": []}
    made = put("annotation", data, STAMP, task_created_at=None)
    assert (made.id, made.created_at, made.version) == ("5", at(0), at(5))
    assert "task_created_at" not in made.data


def test_where_label_studio_has_no_version_the_time_of_reading_is_it() -> None:
    assert put("view", {"id": 5}, READ).version == at(20)
    assert put("view", {"id": 5}, STAMP).version == at(10)


def test_a_user_was_born_on_joining() -> None:
    assert put("user", {"id": 5, "date_joined": "2026-11-22T06:00:00Z"}, READ).created_at == at(0)


@pytest.mark.parametrize("id", [None, True, 1.5, [], {}])
def test_a_thing_without_a_usable_id_is_refused(id: Any) -> None:
    with pytest.raises(ValueError, match="without an id"):
        put("task", {"id": id}, STAMP)


def test_a_delete_has_no_version_and_no_data() -> None:
    made = delete("task", "5", STAMP)
    assert (made.version, made.created_at, made.data) == (None, None, {})


def test_a_superseding_reading_is_one_tick_newer_than_what_it_corrects() -> None:
    tick = timedelta(microseconds=1)
    assert superseding(record(version=5), at(9), tick).version == at(9) + tick
    assert superseding(record(version=5), at(1), tick).version == at(5)
