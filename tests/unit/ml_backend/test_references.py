"""Where images lie, and where they may not."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.problems import TaskProblem
from ml_backend.references import InBucket, Inline, OnDisk, Place, Web, is_label_studio, locate, shown

URL = "http://label-studio.test:8080"


def coded(uri: str) -> str:
    return base64.urlsafe_b64encode(uri.encode()).decode()


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("/data/upload/1/a b.jpg", Web(url=f"{URL}/data/upload/1/a%20b.jpg")),
        ("/data/upload/1/a%20b.jpg", Web(url=f"{URL}/data/upload/1/a%20b.jpg")),  # quoted once is enough
        ("/data/local-files/?d=x/a.jpg", Web(url=f"{URL}/data/local-files/?d=x/a.jpg")),
        (f"{URL}/data/upload/1/a.jpg", Web(url=f"{URL}/data/upload/1/a.jpg")),
        ("s3://bucket/dir/a b.jpg", InBucket(bucket="bucket", key="dir/a b.jpg")),
        ("s3://bucket/a?b#c.jpg", InBucket(bucket="bucket", key="a?b#c.jpg")),  # keys may hold anything
        (f"/tasks/7/resolve/?fileuri={coded('s3://b/k.jpg')}", InBucket(bucket="b", key="k.jpg")),
        (f"/tasks/7/resolve/?fileuri={coded('s3://b/k.jpg').rstrip('=')}", InBucket(bucket="b", key="k.jpg")),
        (f"{URL}/tasks/7/presign/?fileuri={coded('s3://b/k.jpg')}", InBucket(bucket="b", key="k.jpg")),
        ("https://example.test/a.jpg?sig=1", Web(url="https://example.test/a.jpg?sig=1")),
        (f"{URL}/images/a.jpg", Web(url=f"{URL}/images/a.jpg")),  # another site on the same host
        ("data:image/png;base64,YWJj", Inline(body=b"abc")),
        ("gs://b/k.jpg", Web(url=f"{URL}/tasks/7/resolve/?fileuri={coded('gs://b/k.jpg')}")),
    ],
)
def test_an_address_is_understood(reference: str, place: Place) -> None:
    assert locate(reference, label_studio_url=URL, task_id=7) == place


@pytest.mark.parametrize(
    "reference",
    [
        "/etc/passwd",
        "etc/passwd",
        "C:\\pictures\\a.jpg",
        "file:///etc/passwd",
        "ftp://host/a.jpg",
        "//host/a.jpg",
        "http://",
        "http://[broken/a.jpg",
        "s3://bucket",
        "s3:///key",
        "data:image/png;base64,***",
        "/data/upload/../../etc/passwd",
        "/tasks/7/resolve/?fileuri=%%%",
        "/tasks/7/resolve/",
        f"/tasks/7/resolve/?fileuri={coded('/etc/passwd')}",
        f"/tasks/7/resolve/?fileuri={coded('http://inside.test/')}",
    ],
)
def test_anything_else_is_refused(reference: str) -> None:
    with pytest.raises(TaskProblem) as caught:
        locate(reference, label_studio_url=URL, task_id=7)
    assert caught.value.reason == "address"
    assert not caught.value.passing


@given(st.text(max_size=60))
def test_no_text_is_ever_a_file_of_this_machine(text: str) -> None:
    for start in ("", "/", "/data/", "file://", "http://"):
        try:
            place = locate(start + text, label_studio_url=URL, task_id=1)
        except TaskProblem:
            continue
        assert isinstance(place, Web | InBucket | Inline)


def test_a_local_file_is_read_below_the_operators_folder(tmp_path: Path) -> None:
    place = locate("/data/local-files/?d=x%2Fa.jpg", label_studio_url=URL, document_root=tmp_path)
    assert place == OnDisk(path=tmp_path.resolve() / "x" / "a.jpg")


@pytest.mark.parametrize(
    "inside", ["../secret", "x/../../secret", "link/secret", "%2e%2e/secret", "a%00b", ""]
)
def test_a_local_file_outside_that_folder_is_refused(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(TaskProblem, match="not inside LOCAL_FILES_DOCUMENT_ROOT"):
        locate(f"/data/local-files/?d={inside}", label_studio_url=URL, document_root=root)


def test_an_absolute_local_file_is_taken_as_below_the_folder(tmp_path: Path) -> None:
    place = locate("/data/local-files/?d=/etc/passwd", label_studio_url=URL, document_root=tmp_path)
    assert place == OnDisk(path=tmp_path.resolve() / "etc" / "passwd")


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("https://host/ls/data/a", True),
        ("https://host:443/ls/data/a", True),  # the usual port may be written
        ("https://HOST/ls/data/a", True),
        ("http://host/ls/data/a", False),  # not encrypted
        ("https://host:8443/ls/data/a", False),
        ("https://host/other/a", False),  # another program on the same host
        ("https://host/lsx/a", False),
        ("https://host.evil.test/ls/data/a", False),
        ("https://host@evil.test/ls/data/a", False),
    ],
)
def test_label_studio_is_its_scheme_host_port_and_path(address: str, ours: bool) -> None:
    assert is_label_studio(address, "https://host/ls") is ours


def test_what_is_shown_holds_no_secret() -> None:
    assert shown("https://user:pass@host:81/a.jpg?X-Amz-Signature=abc") == "https://host:81/a.jpg?…"
    for broken in (
        "http://user:pass@host:99999/a",
        "http://user:pass@[::1/a",
        "http://user:pa/ss@host:81/a?pass",
    ):
        assert "pass" not in shown(broken)
        assert "ss@" not in shown(broken)
        assert "/a" in shown(broken)
    assert shown("/data/local-files/?d=x/a.jpg") == "/data/local-files/?d=x/a.jpg"
    assert shown("data:image/png;base64,AAAA") == "data:image/png;base64,…"
    assert len(shown("s3://b/" + "x" * 1000)) < 200
