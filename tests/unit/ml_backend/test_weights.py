"""Finding weights, and keeping to what the operator gave: a folder, and what is published in the bucket."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bridge.errors import NotFound, SenderError, SettingsError
from bridge.keys import ModelsLayout
from ml_backend.weights import below_model_root, find_weights, published_version

LAYOUT = ModelsLayout("team/models/")


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "shapes.pt").write_bytes(b"weights")
    found = find_weights(str(tmp_path / "shapes.pt"))
    assert (found.name, found.digest) == ("shapes", hashlib.sha256(b"weights").hexdigest())


@pytest.mark.parametrize("model", ["none.pt", "", "."])
def test_missing_weights_are_named(model: str) -> None:
    with pytest.raises(NotFound, match="MODEL"):
        find_weights(model)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("s3://bucket/team/models/current.json", None),  # whichever the pointer names
        ("s3://bucket/team/models/shapes.0123abcd/weights.pt", "shapes.0123abcd"),
        ("s3://bucket/team/models/shapes.0123abcd/manifest.json", "shapes.0123abcd"),
    ],
)
def test_model_names_the_buckets_pointer_or_one_published_version(model: str, version: str | None) -> None:
    assert published_version(model, bucket="bucket", layout=LAYOUT) == version


@pytest.mark.parametrize(
    "model",
    [
        "s3://bucket/team/models/shapes.pt",  # a raw object: no manifest
        "s3://bucket/shapes.pt",
        "s3://bucket/team/models/engines/shapes.pt",
        "s3://bucket/models/current.json",  # another prefix
        "s3://bucket/models/shapes.0123abcd/weights.pt",
        "s3://bucket/other/team/models/current.json",
        "s3://other/team/models/current.json",  # another bucket
        "s3://bucket/team/models/../../models/current.json",
        "s3://bucket/team/models/shapes.0123abcd/more/weights.pt",
    ],
)
def test_an_object_without_a_manifest_of_ours_is_refused_with_the_command_that_publishes_it(
    model: str,
) -> None:
    with pytest.raises(SettingsError) as caught:
        published_version(model, bucket="bucket", layout=LAYOUT)
    assert "python -m sidecar model publish FILE --activate" in str(caught.value)
    assert "MODEL=s3://bucket/team/models/current.json" in str(caught.value)


@pytest.mark.parametrize("model", ["s3://bucket", "s3://", "s3:///x.pt"])
def test_an_address_of_no_object_is_named(model: str) -> None:
    with pytest.raises(NotFound, match="MODEL"):
        published_version(model, bucket="bucket", layout=LAYOUT)


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
