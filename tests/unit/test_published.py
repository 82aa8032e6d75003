"""Weights in the bucket: published whole or not at all, listed, chosen; and read only when they say what they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some

from bridge.errors import Corrupt, SenderError, Unavailable
from bridge.keys import ModelKey, ModelsLayout, models_prefix
from bridge.published import Published, checked_name, name_of_file, pointer, read_manifest, read_pointer
from bridge.store import MemoryStore
from ml_backend.library import Library
from sidecar.cli import cli
from sidecar.published import Shelf
from tests.unit.sidecar.fakes import World

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
HEX = some.text("0123456789abcdef", min_size=8, max_size=8)
NAMES = some.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", fullmatch=True)


def a_file(folder: Path, text: str = "weights", name: str = "best.pt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@given(name=NAMES, digest=HEX, root=some.sampled_from(["", "models/", "team-a/models/"]))
def test_model_keys_can_be_read_back(name: str, digest: str, root: str) -> None:
    layout = ModelsLayout(root)
    key = ModelKey(version=f"{name}.{digest}", name="weights.pt")
    assert layout.parse_model(layout.model(key)) == key
    assert layout.parse_model(layout.pointer) is None


@given(stem=some.text())
def test_every_file_name_makes_a_model_name(stem: str) -> None:
    assert checked_name(name_of_file(stem))


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "-a", "a b", "x" * 41, "ä"])
def test_a_name_that_cannot_be_in_a_key_is_refused(name: str) -> None:
    with pytest.raises(SenderError, match="--name"):
        checked_name(name)


def a_version(**changes: object) -> dict[str, object]:
    one = Published(name="shapes", file="weights.pt", sha256="a" * 64, size_bytes=7, published_at=AT)
    return {**json.loads(one.manifest()), **changes}


def test_a_manifest_can_be_read_back_and_may_hold_more() -> None:
    read = read_manifest(json.dumps(a_version(more=1)).encode(), where="there")
    assert (read.version, read.published_at, read.size_bytes) == ("shapes.aaaaaaaa", AT, 7)
    assert read_pointer(pointer("shapes.aaaaaaaa", at=AT), where="there") == "shapes.aaaaaaaa"


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"file": "../x.pt"},
        {"file": "a/b.pt"},
        {"file": None},
        {"name": "../x"},
        {"sha256": "A" * 64},
        {"sha256": "b" * 64},  # not the one of its version
        {"size_bytes": "7"},
        {"published_at": "yesterday"},
        {"version": "other.aaaaaaaa"},
    ],
)
def test_a_manifest_that_is_none_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(Corrupt, match="there"):
        read_manifest(json.dumps(a_version(**changes)).encode(), where="there")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"format": 1}', b'{"format": 1, "version": "../x.01234567"}', b"\xff"]
)
def test_a_pointer_that_is_none_is_named(body: bytes) -> None:
    with pytest.raises(Corrupt, match="there"):
        read_pointer(body, where="there")


def test_what_is_published_and_activated_is_what_a_backend_finds(tmp_path: Path) -> None:
    store = MemoryStore()
    shelf = Shelf(store, "models/", now=lambda: AT)
    published, is_new = shelf.publish(a_file(tmp_path), "shapes")
    assert is_new
    assert shelf.activate(published.version) is None
    library = Library(
        "s3://bucket/models/current.json",
        cache_dir=tmp_path / "cache",
        open_bucket=lambda _name: store,
        bucket="bucket",
    )
    found = library.find()
    assert (found.version, found.path.read_text()) == (published.version, "weights")


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    store, times = MemoryStore(), iter([AT, AT + timedelta(days=1)])
    shelf = Shelf(store, "models/", now=lambda: next(times))
    first, _ = shelf.publish(a_file(tmp_path), "shapes")
    again, is_new = shelf.publish(a_file(tmp_path, name="copy.pt"), "shapes")
    assert (again, is_new) == (first, False)


def test_a_publishing_that_breaks_off_leaves_no_version(tmp_path: Path) -> None:
    class Breaks(MemoryStore):
        def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
            if key.endswith("manifest.json"):
                raise Unavailable("broke off")
            super().put(key, body, content_type=content_type)

    store = Breaks()
    shelf = Shelf(store, "models/")
    with pytest.raises(Unavailable):
        shelf.publish(a_file(tmp_path), "shapes")
    assert shelf.versions() == []
    with pytest.raises(SenderError, match="publish one first"):
        shelf.activate("shapes.01234567")


def test_the_commands_publish_list_and_go_back(tmp_path: Path) -> None:
    ready = World().clients
    root = models_prefix(ready.settings.s3.bucket_prefix)

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli, ["model", *words], obj=ready)
        assert result.exit_code == 0, result.output
        return result.output

    assert "No weights are published" in run("list")
    told = run("publish", str(a_file(tmp_path, "one")), "--name", "shapes", "--activate")
    first = told.split(":")[0]
    assert f"/{root}current.json" in told
    second = json.loads(run("publish", str(a_file(tmp_path, "two")), "--json"))["version"]
    assert second.startswith("best.")
    assert {line.split()[-5] if line.startswith("*") else "" for line in run("list").splitlines()} == {
        first,
        "",
    }
    assert f"{first} did before" in run("activate", second)
    shown = json.loads(run("list", "--json"))
    assert {one["version"]: one["active"] for one in shown} == {first: False, second: True}
    failed = CliRunner().invoke(cli, ["model", "activate", "nobody.01234567"], obj=ready)
    assert failed.exit_code == 1
    assert first in failed.output
