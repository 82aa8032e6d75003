"""Which weights predict: what serves is replaced while it serves, and older or other versions can be asked for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from bridge.errors import Corrupt, Unavailable
from bridge.keys import ModelKey, ModelsLayout
from bridge.published import MANIFEST, Published, pointer
from bridge.store import MemoryStore
from ml_backend.detectors import Found, Look
from ml_backend.library import Library
from ml_backend.models import Models
from ml_backend.versions import VersionBook
from tests.unit.ml_backend.helpers import CONFIG, PROJECT, FakeDetector, a_box, a_client, task

POINTER = "s3://bucket/models/current.json"
LAYOUT = ModelsLayout("models/")
OTHER_PROJECT = "4.1795312967"


def opened(path: Path) -> FakeDetector:
    """Weights say by their bytes what they find: "circle", "square"; "broken" ones do not load."""
    text = path.read_text()
    if text.startswith("broken"):
        raise Corrupt(f"{path.name} is cut off")
    return FakeDetector(Found(boxes=(a_box(text.split()[0]),)))


class Bucket(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    def get(self, key: str) -> bytes:
        if self.is_down:
            raise Unavailable("the store is down")
        return super().get(key)

    def publish(self, body: bytes, *, name: str = "shapes", says: bytes | None = None) -> str:
        sha256 = hashlib.sha256(body if says is None else says).hexdigest()
        at = datetime(2026, 11, 22, tzinfo=UTC)
        one = Published(name=name, file="weights.pt", sha256=sha256, size_bytes=len(body), published_at=at)
        self.put(LAYOUT.model(ModelKey(version=one.version, name="weights.pt")), body)
        self.put(LAYOUT.model(ModelKey(version=one.version, name=MANIFEST)), one.manifest())
        return one.version

    def activate(self, version: str) -> None:
        self.put(LAYOUT.pointer, pointer(version, at=datetime.now(UTC)))


@contextmanager
def watching(
    model: str, folder: Path, bucket: MemoryStore | None = None, open: Callable[[Path], Any] = opened
) -> Iterator[Models]:
    store = bucket or MemoryStore()
    library = Library(model, cache_dir=folder, open_bucket=lambda _name: store, bucket="bucket")
    models = Models(shelf=library, open=open, model_root=folder, check_s=0.01)
    try:
        yield models
    finally:
        models.stop()


def until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def setup(
    client: FlaskClient, config: str = CONFIG, project: str = PROJECT, **changes: Any
) -> dict[str, Any]:
    body = {"project": project, "schema": config, "extra_params": None}
    answer = client.post("/setup", json=body | changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def predicted(
    client: FlaskClient, config: str = CONFIG, project: str = PROJECT, **params: Any
) -> tuple[str, str]:
    """(label, model_version) of one task."""
    body = {"project": project, "label_config": config, "tasks": [task()], "params": params}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    [item] = answer.get_json()["results"]
    [region] = item["result"]
    return region["value"]["rectanglelabels"][0], item["model_version"]


def state(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/health").get_json()["model"]
    return found


def served(client: FlaskClient, label: str) -> None:
    until(lambda: state(client)["state"] == "ready" and predicted(client)[0] == label)


# --- replaced while it serves


def test_a_replaced_file_is_taken_without_a_restart_and_its_version_shows(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache") as models:
        client = a_client(models=models)
        served(client, "Circle")
        first = setup(client)["model_version"]
        file.write_text("square")
        served(client, "Box")
        second = setup(client)["model_version"]
        assert second != first
        assert predicted(client) == ("Box", second)
        assert client.get("/versions").get_json()["versions"] == [second, first]


def test_no_request_is_dropped_or_mixed_while_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache") as models:
        client = a_client(models=models, web_threads=32)
        served(client, "Circle")
        circles = setup(client)["model_version"]
        over = threading.Event()

        def ask(_number: int) -> set[tuple[str, str]]:
            own = client.application.test_client()
            found = set()
            while not over.is_set():
                found.add(predicted(own))
            return found

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, number) for number in range(4)]
            try:
                for text in ("square 1", "circle 2", "square 3"):
                    file.write_text(text)
                    served(client, "Circle" if text.startswith("circle") else "Box")
            finally:
                over.set()
            found = set().union(*(one.result() for one in asked))
        assert ("Circle", circles) in found
        assert len({version for _, version in found}) == len(found)  # no version with the label of another


def test_a_broken_file_leaves_the_old_model_and_is_told_until_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    opens: list[str] = []

    def opening(path: Path) -> FakeDetector:
        opens.append(path.read_text())
        return opened(path)

    with watching(str(file), tmp_path / "cache", open=opening) as models:
        client = a_client(models=models)
        served(client, "Circle")
        first = setup(client)["model_version"]
        file.write_text("broken")
        until(lambda: state(client).get("replacement", {}).get("state") == "failed")
        assert "is cut off" in state(client)["replacement"]["reason"]
        assert state(client)["state"] == "ready"
        assert "ml_backend_model_replacement_failed 1.0" in client.get("/metrics").text
        assert "the model before it serves on" in caplog.text
        assert predicted(client) == ("Circle", first)
        time.sleep(0.1)
        assert opens.count("broken") == 1  # tried again when the file changes, not all the time
        file.write_text("square")
        served(client, "Box")
        assert "replacement" not in state(client)
        assert "ml_backend_model_replacement_failed 0.0" in client.get("/metrics").text


def test_after_a_restart_with_a_broken_file_what_served_before_serves(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache") as models:
        served(a_client(models=models), "Circle")
    file.write_text("broken")
    with watching(str(file), tmp_path / "cache") as models:
        client = a_client(models=models)
        served(client, "Circle")
        assert "is cut off" in state(client)["replacement"]["reason"]
        file.write_text("square")
        served(client, "Box")


def test_a_file_that_another_setting_of_model_named_is_no_substitute(tmp_path: Path) -> None:
    (tmp_path / "shapes.pt").write_text("circle")
    with watching(str(tmp_path / "shapes.pt"), tmp_path / "cache") as models:
        served(a_client(models=models), "Circle")
    with watching(str(tmp_path / "typo.pt"), tmp_path / "cache") as models:
        client = a_client(models=models)
        until(lambda: state(client)["state"] == "failed")
        assert "typo.pt" in state(client)["reason"]


# --- the bucket's pointer


def test_the_buckets_pointer_says_what_serves_and_moving_it_is_enough(tmp_path: Path) -> None:
    bucket = Bucket()
    circle, square = bucket.publish(b"circle"), bucket.publish(b"square")
    bucket.activate(circle)
    with watching(POINTER, tmp_path, bucket) as models:
        client = a_client(models=models)
        served(client, "Circle")
        assert setup(client)["model_version"].startswith(f"{circle}.t0.5.m")
        bucket.activate(square)
        served(client, "Box")
        bucket.activate(circle)
        served(client, "Circle")
        bucket.activate("gone.01234567")
        until(lambda: "gone.01234567" in state(client).get("replacement", {}).get("reason", ""))
        assert predicted(client)[0] == "Circle"


def test_weights_that_are_not_their_manifests_are_never_opened(tmp_path: Path) -> None:
    bucket = Bucket()
    good = bucket.publish(b"circle")
    bucket.activate(good)
    seen: list[str] = []

    def opening(path: Path) -> FakeDetector:
        seen.append(path.read_text())
        return opened(path)

    with watching(POINTER, tmp_path, bucket, open=opening) as models:
        client = a_client(models=models)
        served(client, "Circle")
        bucket.activate(bucket.publish(b"square", says=b"something else"))
        until(
            lambda: "is not what its manifest says" in state(client).get("replacement", {}).get("reason", "")
        )
    assert seen == ["circle"]
    assert [path.read_text() for path in tmp_path.rglob("*.pt")] == ["circle"]


def test_with_the_bucket_down_at_the_start_what_served_before_serves(tmp_path: Path) -> None:
    bucket = Bucket()
    bucket.activate(bucket.publish(b"circle"))
    with watching(POINTER, tmp_path, bucket) as models:
        served(a_client(models=models), "Circle")
    bucket.activate(bucket.publish(b"square"))
    bucket.is_down = True
    with watching(POINTER, tmp_path, bucket) as models:
        client = a_client(models=models)
        served(client, "Circle")
        assert "the store is down" in state(client)["replacement"]["reason"]
        bucket.is_down = False
        served(client, "Box")


@pytest.mark.parametrize("model", ["s3://bucket/models/raw.pt", "s3://elsewhere/models/current.json"])
def test_an_object_without_a_manifest_is_never_opened_not_even_a_copy_of_it(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = Bucket()
    bucket.put("models/raw.pt", b"circle")
    bucket.activate(bucket.publish(b"square"))
    kept = tmp_path / "weights" / "kept" / hashlib.sha256(b"circle").hexdigest()
    kept.mkdir(parents=True)  # as an earlier release of ours kept what served
    (kept / "raw.pt").write_bytes(b"circle")
    (kept / "kept.json").write_text(json.dumps({"model": model}))
    opens: list[Path] = []

    def opening(path: Path) -> FakeDetector:
        opens.append(path)
        return opened(path)

    with watching(model, tmp_path, bucket, open=opening) as models:
        client = a_client(models=models)
        until(lambda: state(client)["state"] == "failed")
        assert "python -m sidecar model publish FILE --activate" in state(client)["reason"]
        assert models.available() == []
        answer = client.post("/setup", json={"project": PROJECT, "schema": CONFIG})
        assert (answer.status_code, "has no manifest" in answer.text) == (503, True)
    assert opens == []
    assert sum(
        "model publish" in record.message for record in caplog.records if "cannot be used" in record.msg
    )


def test_one_published_version_can_be_named_and_the_pointer_does_not_move_it(tmp_path: Path) -> None:
    bucket = Bucket()
    circle, square = bucket.publish(b"circle"), bucket.publish(b"square")
    bucket.activate(square)
    with watching(f"s3://bucket/models/{circle}/weights.pt", tmp_path, bucket) as models:
        client = a_client(models=models)
        served(client, "Circle")
        assert setup(client)["model_version"].startswith(f"{circle}.t")
        bucket.activate(square)
        assert predicted(client)[0] == "Circle"


def test_a_version_whose_manifest_is_missing_is_not_opened_and_told_how_to_mend_it(tmp_path: Path) -> None:
    bucket = Bucket()
    circle = bucket.publish(b"circle")
    bucket.activate(circle)
    bucket.delete(f"models/{circle}/manifest.json")
    with watching(POINTER, tmp_path, bucket) as models:
        client = a_client(models=models)
        until(lambda: state(client)["state"] == "failed")
        assert "has no manifest in the bucket" in state(client)["reason"]
        assert "python -m sidecar model publish FILE" in state(client)["reason"]


def test_a_kept_copy_that_was_tampered_with_does_not_serve(tmp_path: Path) -> None:
    bucket = Bucket()
    bucket.activate(bucket.publish(b"circle"))
    with watching(POINTER, tmp_path, bucket) as models:
        served(a_client(models=models), "Circle")
    [copy] = tmp_path.rglob("*.pt")
    copy.write_bytes(b"square")
    bucket.is_down = True
    opens: list[Path] = []

    def opening(path: Path) -> FakeDetector:
        opens.append(path)
        return opened(path)

    with watching(POINTER, tmp_path, bucket, open=opening) as models:
        client = a_client(models=models)
        until(lambda: state(client)["state"] == "failed")
        assert opens == []
        bucket.is_down = False
        served(client, "Circle")


# --- asked for


def test_backends_of_one_bucket_know_the_same_published_weights_also_where_model_is_a_file(
    tmp_path: Path,
) -> None:
    bucket = Bucket()
    circle, square = bucket.publish(b"circle"), bucket.publish(b"square")
    bucket.activate(circle)
    file = tmp_path / "own.pt"
    file.write_text("triangle")
    with (
        watching(POINTER, tmp_path / "one", bucket) as first,
        watching(str(file), tmp_path / "other", bucket) as second,
    ):
        clients = [a_client(models=models) for models in (first, second)]
        for client in clients:
            until(lambda client=client: state(client)["state"] == "ready" and published(client))
        assert published(clients[0]) == published(clients[1])
        assert set(published(clients[1])) == {circle, square}
        told = setup(clients[1], extra_params={"model_version": square})["model_version"]
        assert predicted(clients[1]) == ("Box", told)
        assert told in clients[1].get("/versions").get_json()["versions"]


def test_with_the_bucket_away_a_file_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(MemoryStore):
        def keys(self, prefix: str, *, start_after: str = "") -> Iterator[Any]:
            raise Unavailable("the store is away")

    file = tmp_path / "own.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache", Away()) as models:
        client = a_client(models=models)
        served(client, "Circle")
        until(lambda: "published weights cannot be listed" in caplog.text)
        file.write_text("square")
        served(client, "Box")
        assert "published" not in client.get("/versions").get_json()


def published(client: FlaskClient) -> list[str]:
    found: list[str] = client.get("/versions").get_json().get("published", [])
    return found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[FlaskClient, str, str]]:
    """A backend that serves circles, with squares published beside them; and both versions."""
    bucket = Bucket()
    circle, square = bucket.publish(b"circle"), bucket.publish(b"square")
    bucket.activate(circle)
    with watching(POINTER, tmp_path, bucket) as models:
        client = a_client(models=models)
        served(client, "Circle")
        until(lambda: len(models.available()) == 2)
        yield client, circle, square


@pytest.mark.parametrize("as_text", [False, True])
def test_extra_params_choose_for_their_project_alone(
    two: tuple[FlaskClient, str, str], as_text: bool
) -> None:
    client, circle, square = two
    wanted: Any = json.dumps({"model_version": square}) if as_text else {"model_version": square}
    told = setup(client, extra_params=wanted)["model_version"]
    assert told.startswith(square)
    assert predicted(client) == ("Box", told)
    assert predicted(client, project=OTHER_PROJECT)[1].startswith(circle)
    setup(client)  # null again: the one that serves
    assert predicted(client)[0] == "Circle"


def test_a_setup_that_names_no_extra_params_leaves_the_choice(two: tuple[FlaskClient, str, str]) -> None:
    client, _, square = two
    told = setup(client, extra_params={"model_version": square})["model_version"]
    answer = client.post("/setup", json={"project": PROJECT, "schema": CONFIG})  # as our jobs ask
    assert answer.get_json()["model_version"] == told
    assert predicted(client) == ("Box", told)


def test_a_version_that_setup_gave_can_be_chosen_as_it_is(two: tuple[FlaskClient, str, str]) -> None:
    client, _, square = two
    full = setup(client, extra_params={"model_version": square})["model_version"]
    setup(client)
    assert setup(client, extra_params={"model_version": full})["model_version"] == full


def test_an_unknown_version_in_extra_params_is_told_and_the_one_that_serves_is_used(
    two: tuple[FlaskClient, str, str],
) -> None:
    client, circle, square = two
    told = setup(client, extra_params={"model_version": "nobody.01234567"})
    assert told["model_version"].startswith(circle)
    assert any("nobody.01234567" in warning and square in warning for warning in told["warnings"])
    assert predicted(client) == ("Circle", told["model_version"])


def test_a_control_can_name_the_version_that_fills_it(two: tuple[FlaskClient, str, str]) -> None:
    client, circle, square = two
    config = CONFIG.replace('name="label"', f'name="label" model_version="{square}"')
    told = setup(client, config)["model_version"]
    assert predicted(client, config) == ("Box", told)
    unknown = CONFIG.replace('name="label"', 'name="label" model_version="nobody.01234567"')
    assert any(circle in warning for warning in setup(client, unknown)["warnings"])


def test_a_request_can_ask_for_any_listed_version(two: tuple[FlaskClient, str, str]) -> None:
    client, circle, square = two
    setup(client)
    listed = client.get("/versions").get_json()["versions"]
    assert [version.rpartition(".t")[0] for version in listed] == [circle, square]
    for version, label in zip(listed, ("Circle", "Box"), strict=True):
        assert predicted(client, model_version=version) == (label, version)
    assert predicted(client) == ("Circle", listed[0])  # asking changes nothing for others


def test_what_is_possible_for_a_project_is_of_the_config_it_had_last(
    two: tuple[FlaskClient, str, str],
) -> None:
    client, _, _ = two
    setup(client)
    old = client.get(f"/versions?project={PROJECT}").get_json()["possible"]
    changed = CONFIG.replace('"Circle"', '"Ring" predicted_values="circle"')
    setup(client, changed)
    answer = client.get(f"/versions?project={PROJECT}").get_json()
    assert len(answer["possible"]) == 2
    assert not set(answer["possible"]) & set(old)
    assert old[0] in answer["versions"]
    for version in answer["possible"]:
        assert predicted(client, changed, model_version=version)[1] == version
    assert "possible" not in client.get("/versions").get_json()


def test_a_version_that_is_not_known_or_of_another_config_is_refused_with_those_that_are(
    two: tuple[FlaskClient, str, str],
) -> None:
    client, _, _ = two
    of_this = setup(client)["model_version"]
    of_another = setup(client, CONFIG.replace("Circle", "Ring"))["model_version"]
    for asked in ("nobody", of_another):
        body = {
            "project": PROJECT,
            "label_config": CONFIG,
            "tasks": [task()],
            "params": {"model_version": asked},
        }
        answer = client.post("/predict", json=body)
        assert answer.status_code == 400
        assert asked in answer.get_json()["error"]
        assert of_this in answer.get_json()["error"]


def test_an_earlier_version_of_a_replaced_file_can_still_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache") as models:
        client = a_client(models=models)
        served(client, "Circle")
        first = setup(client)["model_version"]
        file.write_text("square")
        served(client, "Box")
    with watching(str(file), tmp_path / "cache") as models:  # as after a restart
        client = a_client(models=models)
        served(client, "Box")
        assert predicted(client, model_version=first) == ("Circle", first)


# --- what is remembered


def test_versions_and_choices_outlive_a_restart_and_are_shared_by_processes(tmp_path: Path) -> None:
    first, second = VersionBook(tmp_path), VersionBook(tmp_path)
    first.give(PROJECT, "<View/>", "a")
    second.give(PROJECT, "<View></View>", "b")
    first.want(PROJECT, "a")
    assert second.given() == first.given() == ["b", "a"]
    assert second.wanted(PROJECT) == "a"
    first.close()
    second.close()
    again = VersionBook(tmp_path)
    assert (again.given(PROJECT), again.wanted(PROJECT)) == (["b", "a"], "a")
    assert again.configs() == [(PROJECT, "<View></View>")]
    again.want(PROJECT, None)
    assert again.wanted(PROJECT) is None
    again.close()


def test_versions_of_one_project_are_listed_by_its_uid_or_id() -> None:
    book = VersionBook(None)
    book.give(PROJECT, "<View/>", "a")
    book.give("33.1795312966", "<View/>", "b")
    assert [book.given(project) for project in ("", PROJECT, "3", "33", "%", "4")] == [
        ["b", "a"],
        ["a"],
        ["a"],
        ["b"],
        [],
        [],
    ]


def test_many_threads_write_down_versions_at_once(tmp_path: Path) -> None:
    books = [VersionBook(tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: books[n % 3].give(f"{n}.1795312966", "<View/>", f"v{n}"), range(60)))
    assert set(books[0].given()) == {f"v{n}" for n in range(60)}
    for book in books:
        book.close()


def test_only_so_many_versions_are_kept() -> None:
    book = VersionBook(None)
    for number in range(450):
        book.give(PROJECT, "<View/>", f"v{number}")
    assert book.given()[:2] == ["v449", "v448"]
    assert len(book.given()) == 200


def test_a_folder_that_cannot_be_written_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = VersionBook(tmp_path / "file" / "below")
    book.give(PROJECT, "<View/>", "a")
    assert book.given() == ["a"]


def test_a_file_of_versions_that_is_damaged_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "versions.sqlite3").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    book = VersionBook(tmp_path)
    book.give(PROJECT, "<View/>", "a")
    assert book.given() == ["a"]


def test_a_detector_is_the_one_of_its_weights_also_while_another_takes_its_place(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pt"
    file.write_text("circle")
    with watching(str(file), tmp_path / "cache") as models:
        models.start()
        before = models.default_weights(wait_s=10)
        models.default_detector(wait_s=10)
        file.write_text("square")
        until(lambda: models.default_weights(wait_s=1) != before)
        [found] = models.detector(before, wait_s=1).predict([_image()], look=Look(conf=0.5))
        assert found.boxes[0].name == "circle"


def _image() -> Image.Image:
    return Image.new("RGB", (10, 10))
