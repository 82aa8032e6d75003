"""What a restore decides without a network: moments and titles, people, bodies, requests, and what it knows again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.errors import SenderError
from bridge.keys import Layout
from bridge.restore import Media, Order, TaskSource, fit_title, restore_id, source_of
from bridge.restore_bodies import (
    META,
    Ids,
    annotation_body,
    imports,
    original_of,
    project_body,
    rewritten,
    task_meta,
    unique_ids,
    upload_name,
    uploaded,
)
from bridge.restore_check import match_predictions, missing_views
from bridge.restore_people import read_users_file, resolve
from bridge.state import fold
from tests.fakes import gone, record

MOMENT = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
OWN = "5e05452a-91ca-452a-a21c-1caec0cb9c39"
ORDER = Order(
    id=restore_id("4.1", MOMENT, "http://here"),
    uid="4.1",
    at=MOMENT,
    to="http://here",
    title="Animals",
    users={"none": "x@example.com"},
    bulk=True,
    asked_at=MOMENT,
)


def test_the_same_project_moment_and_target_are_the_same_restore() -> None:
    assert restore_id("4.1", MOMENT, "http://here") == ORDER.id
    others = [("4.2", "http://here", ""), ("4.1", "http://there", ""), ("4.1", "http://here", "again")]
    assert ORDER.id not in [restore_id(uid, MOMENT, to, nonce) for uid, to, nonce in others]


def test_an_order_is_read_back_as_it_was_written() -> None:
    assert Order.from_json(ORDER.to_json()) == ORDER


def test_an_orders_key_and_its_id_are_inverse() -> None:
    layout = Layout("4.1", "team")
    assert layout.parse_restore_order(layout.restore_order(ORDER.id)) == ORDER.id
    assert layout.parse_restore_order(layout.restore_project(ORDER.id)) is None


@pytest.mark.parametrize(
    ("title", "taken", "expected"),
    [
        ("Animals", [], "Animals"),
        ("Animals", ["Animals"], "Animals (as of 2026-11-22 08:30)"),
        ("Animals", ["Animals", "Animals (as of 2026-11-22 08:30)"], "Animals (as of 2026-11-22 08:30, 2)"),
        ("A" * 50, ["A" * 50], "A" * 25 + " (as of 2026-11-22 08:30)"),  # Label Studio takes 50 characters
    ],
)
def test_a_title_that_is_taken_says_of_when_it_is(title: str, taken: list[str], expected: str) -> None:
    assert fit_title(title, taken, MOMENT) == expected


def test_what_belongs_to_no_task_of_the_record_is_named_and_left_out() -> None:
    records = [
        record("project", "4", title="Animals"),
        record("task", "1", data={"image": "/data/upload/4/a.png"}),
        record("annotation", "1", task=1, result=[]),
        record("annotation", "2", task=2, result=[]),
        record("task", "3", data={}),
        record("annotation", "3", task=3, result=[]),
        gone("task", "3", received=20),
    ]
    source = source_of(fold(records))
    assert source is not None
    assert source.counts["annotations"] == 1
    assert [(one.kind, one.id) for one in source.left_out] == [
        ("annotation", "2"),
        ("media", "/data/upload/4/a.png"),
    ]
    assert source_of(fold(records[1:])) is None


# --- people


def test_people_are_matched_by_address_and_never_by_id() -> None:
    recorded = {7: {"email": "Ann@example.com"}, 1: {"email": "bob@example.com", "first_name": "Bob"}}
    found = [{"id": 7, "email": "bob@example.com"}, {"id": 3, "email": "ann@Example.com"}]
    assert resolve([7, 1], recorded, {}, found, create=False).there == {7: 3, 1: 7}


def test_an_author_who_has_left_since_is_still_known_by_address() -> None:
    left = [
        record("project", "4", title="Animals"),
        record("user", "7", email="ann@example.com"),
        gone("user", "7", born=0, received=20, observed=20),
    ]
    source = source_of(fold(left))
    assert source is not None
    assert source.users[7]["email"] == "ann@example.com"


def test_an_unknown_author_is_made_or_stops_it() -> None:
    recorded = {7: {"email": "ann@example.com", "first_name": "Ann", "username": "ann"}}
    made = resolve([7], recorded, {}, [], create=True)
    assert made.create["ann@example.com"]["first_name"] == "Ann"
    assert resolve([7], recorded, {}, [], create=False).unknown == [
        "ann@example.com, who is no user of the target"
    ]
    assert len(resolve([None, 9], recorded, {}, [], create=True).unknown) == 2


def test_a_file_maps_addresses_ids_and_nobody() -> None:
    mapping = read_users_file(
        "old,new\nAnn@example.com, x@example.com\n9,y@example.com\nnone,z@example.com\n"
    )
    found = [{"id": id, "email": f"{name}@example.com"} for id, name in ((1, "x"), (2, "y"), (3, "z"))]
    recorded = {7: {"email": "ann@example.com"}}
    assert resolve([7, 9, None], recorded, mapping, found, create=False).there == {7: 1, 9: 2, None: 3}
    assert read_users_file('{"a@example.com": "b@example.com"}') == {"a@example.com": "b@example.com"}


@pytest.mark.parametrize("text", ["a@example.com", "a@example.com,b", "{", "a@example.com,b@example.com,c"])
def test_a_users_file_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SenderError):
        read_users_file(f"x@example.com,y@example.com\n{text}" if text != "{" else text)


# --- bodies


def task(id: int, inner_id: int | None = None, **data: Any) -> TaskSource:
    return TaskSource(id=id, data={"id": id, "inner_id": inner_id, "data": {}} | data)


@pytest.mark.parametrize("meta", [None, {}, {"src": 1}, ["a"], {META: {"restore": "before", "task": 5}}])
def test_a_task_is_known_again_by_its_meta_and_loses_none(meta: Any) -> None:
    made = task_meta(task(7, meta=meta), ORDER)
    assert original_of(made, ORDER.id) == 7
    assert original_of(made, "another") is None
    assert original_of(meta, ORDER.id) is None
    if isinstance(meta, list):
        assert made[META]["meta"] == meta
    elif meta and META in meta:
        assert made[META]["before"] == meta[META]
    else:
        assert {name: value for name, value in made.items() if name != META} == (meta or {})


def test_an_annotation_always_says_whether_it_is_ground_truth() -> None:
    body = annotation_body({"id": 4, "completed_by": 7, "parent_prediction": 9}, Ids(users={7: 1}))
    assert (body["ground_truth"], body["completed_by"], body["import_id"]) == (False, 1, 4)
    assert "parent_prediction" not in body


def test_a_unique_id_is_tried_first_and_its_replacement_follows_from_the_restore() -> None:
    own, derived = unique_ids({"id": 1, "unique_id": OWN}, ORDER)
    assert own == OWN
    assert unique_ids({"id": 1, "unique_id": OWN}, ORDER)[1] == derived
    assert len(unique_ids({"id": 1, "created_at": "x"}, ORDER)) == 1
    assert unique_ids({"id": 1, "unique_id": "no uuid"}, ORDER) != ["no uuid"]


def test_requests_keep_the_numbers_of_tasks_where_others_were_deleted() -> None:
    tasks = [task(1, 1), task(2, 2), task(3, 5), task(4, 6), task(5, 3), task(6, 7), task(7)]
    sent = [
        ([one.id for one in part.tasks], part.alone) for part in imports(tasks, 0, most=10, most_bytes=10**6)
    ]
    assert sent == [([1, 2], False), ([3], True), ([4], False), ([5], True), ([6, 7], False)]
    chunks = [
        len(part.tasks) for part in imports([task(n, n) for n in range(1, 6)], 0, most=2, most_bytes=10**6)
    ]
    assert chunks == [2, 2, 1]


def test_an_uploads_name_says_which_file_it_is_also_after_label_studio_changed_it() -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    media = Media(path="/data/upload/4/cea5609f-%C3%89toile_1.PNG", key="k", sha256=sha, size_bytes=1)
    name = upload_name(media)
    assert name == f"Étoile_1.{sha[:12]}.PNG"
    listed = {f"upload/9/01234567-{name}": "a", "upload/9/01234567-other.png": "b"}
    assert uploaded(listed) == {sha[:12]: "a"}
    assert uploaded({f"upload/9/01234567-x.{sha[:12]}_aB3dE6g.PNG": "c"}) == {sha[:12]: "c"}
    again = Media(path=f"/data/upload/9/01234567-{name}", key="k", sha256=sha, size_bytes=1)
    assert upload_name(again) == name  # a restore of a restored project does not lengthen it


def test_only_whole_upload_paths_are_rewritten() -> None:
    data = {
        "image": "/data/upload/4/a.png?d=1",
        "more": ["/data/upload/4/a.png", "see /data/upload/4/a.png", 1, None],
    }
    expected = {"image": "/new?d=1", "more": ["/new", "see /data/upload/4/a.png", 1, None]}
    assert rewritten(data, {"/data/upload/4/a.png": "/new"}) == expected


def test_a_projects_creator_is_label_studios_to_say() -> None:
    body = project_body(
        {"title": "old", "created_by": 1, "color": None, "sampling": "Uniform sampling"}, "new"
    )
    assert body == {"title": "new", "sampling": "Uniform sampling"}


def test_equal_predictions_are_counted_one_for_one() -> None:
    one = {"result": [], "score": 0.5, "model_version": "v1"}
    recorded = [one | {"id": 1}, one | {"id": 2}, one | {"id": 3, "score": None}]
    ids, missing, extra = match_predictions(
        recorded, [one | {"id": 10}, one | {"id": 11, "model_version": "v2"}]
    )
    assert (ids, [m["id"] for m in missing], [e["id"] for e in extra]) == ({1: 10}, [2, 3], [11])


def test_two_equal_views_are_two() -> None:
    view = {"data": {"title": "Mine"}, "order": 1}
    assert len(missing_views([view, view], [view])) == 1
    assert missing_views([view], [view | {"id": 9, "user": 3}]) == []
