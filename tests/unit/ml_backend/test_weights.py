"""Finding weights, and keeping to the folder that the operator gave."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bridge.errors import NotFound, SenderError, Unavailable
from bridge.store import MemoryStore
from ml_backend.weights import below_model_root, find_weights


class Store(MemoryStore):
    """Counts downloads; may be down, or break off half-way."""

    def __init__(self) -> None:
        super().__init__()
        self.downloads = 0
        self.down = False
        self.breaks = False

    def head(self, key: str):  # type: ignore[no-untyped-def]
        if self.down:
            raise Unavailable("the store is down")
        return super().head(key)

    def download(self, key: str, path: Path) -> None:
        self.downloads += 1
        if self.breaks:
            path.write_bytes(self.get(key)[:3])
            raise Unavailable("broke off")
        super().download(key, path)


def find(store: Store, folder: Path, model: str = "s3://bucket/models/x.pt"):  # type: ignore[no-untyped-def]
    return find_weights(model, cache_dir=folder, open_bucket=lambda _bucket: store)


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "shapes.pt").write_bytes(b"weights")
    found = find_weights(
        str(tmp_path / "shapes.pt"), cache_dir=tmp_path, open_bucket=lambda _bucket: MemoryStore()
    )
    assert (found.name, found.digest) == ("shapes", hashlib.sha256(b"weights").hexdigest())


def test_weights_of_the_bucket_are_fetched_once_and_again_when_they_change(tmp_path: Path) -> None:
    store = Store()
    store.put("models/x.pt", b"one")
    assert find(store, tmp_path).digest == find(store, tmp_path).digest
    assert store.downloads == 1
    store.put("models/x.pt", b"two")
    found = find(store, tmp_path)
    assert (found.name, found.path.read_bytes(), store.downloads) == ("x", b"two", 2)


def test_while_the_store_is_down_the_copy_fetched_last_serves(tmp_path: Path) -> None:
    store = Store()
    store.put("models/x.pt", b"one")
    store.down = True
    with pytest.raises(Unavailable):
        find(store, tmp_path)
    store.down = False
    find(store, tmp_path)
    store.down = True
    assert find(store, tmp_path).path.read_bytes() == b"one"


def test_half_a_download_is_never_taken_for_whole(tmp_path: Path) -> None:
    store = Store()
    store.put("models/x.pt", b"weights")
    store.breaks = True
    with pytest.raises(Unavailable):
        find(store, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    store.breaks = False
    assert find(store, tmp_path).path.read_bytes() == b"weights"


@pytest.mark.parametrize("model", ["none.pt", "s3://bucket/none.pt", "s3://bucket", "s3://"])
def test_missing_weights_are_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="MODEL"):
        find(Store(), tmp_path, model)


@pytest.mark.parametrize(
    "model_path",
    ["../x.pt", "sub/../../x.pt", "link.pt", "x.txt", "sub", "", "none.pt", "a\0.pt", "x" * 300 + ".pt"],
)
def test_a_model_path_outside_model_root_is_refused(model_path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "x.pt").write_bytes(b"")
    (root / "x.txt").write_bytes(b"")
    (root / "link.pt").symlink_to(tmp_path / "x.pt")
    with pytest.raises(SenderError, match="MODEL_ROOT"):
        below_model_root(model_path, root)
    with pytest.raises(SenderError, match="MODEL_ROOT"):
        below_model_root(str(tmp_path / "x.pt"), root)


def test_a_model_path_inside_model_root_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.pt").write_bytes(b"")
    assert below_model_root("sub/x.pt", tmp_path) == (tmp_path / "sub" / "x.pt").resolve()
