"""What S3Store promises beyond every ObjectStore, over whichever server: as tests to inherit. A subclass's module has
the fixtures of StoreContract and `bucket`: settings of a server and of an empty bucket there; and `client`: one of make_client for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.response import StreamingBody

from bridge.edges.s3 import S3Store, list_buckets
from bridge.errors import Corrupt, FileChanged, NotFound, Refused, Unavailable
from bridge.settings import MIB, S3Settings
from tests.store_contract import StoreContract

PART = 5 * MIB  # the smallest that S3 allows
LARGE_BYTES = 100 * MIB

Call = Callable[..., Any]


class Between:
    """A client with something between it and the server: `verbs` are called with the real verb and its arguments."""

    def __init__(self, real: Any, **verbs: Callable[..., Any]) -> None:
        self._real, self._verbs = real, verbs
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real):
            return real

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            verb = self._verbs.get(name)
            return verb(real, **arguments) if verb else real(**arguments)

        return call


def broken_off_at(part: int) -> Callable[..., Any]:
    def upload_part(real: Call, *, PartNumber: int, **arguments: Any) -> Any:
        if part == PartNumber:
            raise ConnectionClosedError(endpoint_url="the store")
        return real(PartNumber=PartNumber, **arguments)

    return upload_part


def corrupted_on_the_way_up(real: Call, *, Body: Any, ContentMD5: str, **arguments: Any) -> Any:
    """As by a proxy that computes the headers anew: the store cannot notice."""
    body = bytearray(Body if isinstance(Body, bytes) else Body.read())
    body[len(body) // 2] ^= 1
    return real(Body=bytes(body), **arguments)


def corrupted_on_the_way_down(real: Call, **arguments: Any) -> Any:
    answer = real(**arguments)
    body = bytearray(answer["Body"].read())
    body[len(body) // 2] ^= 1
    return {**answer, "Body": StreamingBody(io.BytesIO(bytes(body)), len(body))}


def write(path: Path, size_bytes: int, seed: int = 1) -> Path:
    """A file whose MiBs differ from each other."""
    with path.open("wb") as file:
        for number in range(-(-size_bytes // MIB)):
            block = hashlib.sha256(f"{seed} {number}".encode()).digest() * (MIB // 32)
            file.write(block[: size_bytes - number * MIB])
    return path


def sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


InParts = Callable[..., tuple[S3Store, Between]]


class S3Contract(StoreContract):
    @pytest.fixture
    def in_parts(self, bucket: S3Settings, client: Any) -> InParts:
        """Makes stores that send files over 1 MiB in parts, each with what stands between it and the server."""

        def make(**verbs: Callable[..., Any]) -> tuple[S3Store, Between]:
            between = Between(client, **verbs)
            return S3Store(bucket, client=between, part_bytes=PART, single_put_max_bytes=MIB), between

        return make

    def test_a_file_of_100_mib_goes_up_in_parts_and_comes_down_whole(
        self,
        whole_pages: S3Store,
        bucket: S3Settings,
        tmp_path_factory: pytest.TempPathFactory,
        tmp_path: Path,
    ) -> None:
        up = tmp_path_factory.getbasetemp() / "large"
        if not up.exists():
            write(up, LARGE_BYTES + 17)
        sent: list[int] = []
        whole_pages.upload("large", up, content_type="video/mp4", progress=sent.append)
        info = whole_pages.head("large")
        assert info is not None
        assert info.size_bytes == sum(sent) == LARGE_BYTES + 17
        assert len(sent) == 7  # 16 MiB each
        assert info.md5 is None  # a multipart ETag is no MD5, and is not taken for one
        whole_pages.download("large", tmp_path / "down")
        assert sha(tmp_path / "down") == sha(up)
        assert len(whole_pages.get_range("large", LARGE_BYTES, 100)) == 17

    def test_an_upload_that_was_broken_off_goes_on_where_it_broke(
        self, in_parts: InParts, tmp_path: Path
    ) -> None:
        up = write(tmp_path / "up", 12 * MIB)
        broken, _ = in_parts(upload_part=broken_off_at(3))
        with pytest.raises(Unavailable):
            broken.upload("a", up)
        assert broken.head("a") is None
        store, client = in_parts()
        sent: list[int] = []
        store.upload("a", up, progress=sent.append)
        assert client.calls.count("upload_part") == 1
        assert "create_multipart_upload" not in client.calls
        assert sum(sent) == 12 * MIB
        assert hashlib.sha256(store.get("a")).hexdigest() == sha(up)

    def test_an_upload_that_was_broken_off_starts_anew_when_the_file_is_another(
        self, bucket: S3Settings, client: Any, in_parts: InParts, tmp_path: Path
    ) -> None:
        up = write(tmp_path / "up", 12 * MIB)
        broken, _ = in_parts(upload_part=broken_off_at(3))
        with pytest.raises(Unavailable):
            broken.upload("a", up)
        write(up, 11 * MIB, seed=2)
        store, client = in_parts()
        store.upload("a", up)
        assert client.calls.count("abort_multipart_upload") == 1
        assert client.calls.count("upload_part") == 3
        assert hashlib.sha256(store.get("a")).hexdigest() == sha(up)
        assert not client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads")

    def test_uploads_of_other_keys_are_left_alone(
        self, bucket: S3Settings, client: Any, in_parts: InParts, tmp_path: Path
    ) -> None:
        up = write(tmp_path / "up", 6 * MIB)
        other = client.create_multipart_upload(Bucket=bucket.bucket, Key="a.2")["UploadId"]
        stale = client.create_multipart_upload(Bucket=bucket.bucket, Key="a")["UploadId"]
        store, _ = in_parts()
        store.upload("a", up)
        left = client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
        assert [(one["Key"], one["UploadId"]) for one in left] == [("a.2", other)]
        assert stale != other
        client.abort_multipart_upload(Bucket=bucket.bucket, Key="a.2", UploadId=other)

    @pytest.mark.parametrize("size", [1000, 12 * MIB])
    def test_bytes_that_changed_on_the_way_up_are_found_by_their_checksum(
        self, in_parts: InParts, tmp_path: Path, size: int
    ) -> None:
        wrong, client = in_parts(put_object=corrupted_on_the_way_up, upload_part=corrupted_on_the_way_up)
        with pytest.raises(Corrupt, match="send it again"):
            wrong.upload("a", write(tmp_path / "up", size))
        assert "complete_multipart_upload" not in client.calls

    @pytest.mark.parametrize("size", [1000, 12 * MIB])
    def test_bytes_that_changed_on_the_way_down_are_found_by_their_checksum(
        self, in_parts: InParts, tmp_path: Path, size: int
    ) -> None:
        store, _ = in_parts()
        store.upload("a", write(tmp_path / "up", size))
        wrong, _ = in_parts(get_object=corrupted_on_the_way_down)
        with pytest.raises(Corrupt, match="read it again"):
            wrong.download("a", tmp_path / "down")
        with pytest.raises(Corrupt, match="read it again"):
            wrong.get("a")
        assert [path.name for path in tmp_path.iterdir()] == ["up"]

    def test_an_object_that_another_tool_sent_in_parts_comes_down(
        self, bucket: S3Settings, tmp_path: Path
    ) -> None:
        up = write(tmp_path / "up", 12 * MIB)
        other_tool = S3Store(bucket, part_bytes=7 * MIB, single_put_max_bytes=MIB)
        other_tool.upload("a", up)
        S3Store(bucket).download("a", tmp_path / "down")
        assert sha(tmp_path / "down") == sha(up)

    @pytest.mark.parametrize("size", [1000, 12 * MIB])
    def test_a_file_that_changes_while_it_is_sent_is_an_error(
        self, in_parts: InParts, tmp_path: Path, size: int
    ) -> None:
        up = write(tmp_path / "up", size)

        def changing(real: Call, **arguments: Any) -> Any:
            answer = real(**arguments)
            with up.open("ab") as file:
                file.write(b"more")
            return answer

        store, client = in_parts(put_object=changing, upload_part=changing)
        with pytest.raises(FileChanged, match="changed while it was sent"):
            store.upload("a", up)
        assert "complete_multipart_upload" not in client.calls

    def test_a_file_that_gets_shorter_while_it_is_sent_is_an_error_at_once(
        self, in_parts: InParts, tmp_path: Path
    ) -> None:
        up = write(tmp_path / "up", 12 * MIB)

        def shortening(real: Call, *, PartNumber: int, **arguments: Any) -> Any:
            with up.open("r+b") as file:
                file.truncate(PartNumber * PART - 1000)
            return real(PartNumber=PartNumber, **arguments)

        store, _ = in_parts(upload_part=shortening)
        with pytest.raises(FileChanged):
            store.upload("a", up)
        assert store.head("a") is None

    def test_thousands_are_deleted_in_few_calls(self, bucket: S3Settings, client: Any) -> None:
        client = Between(client)
        store = S3Store(bucket, client=client)
        store.put("many/0001", b"x")
        assert store.delete_many(f"many/{number:04d}" for number in range(1001)) == {}
        assert client.calls == ["put_object", "delete_objects", "delete_objects"]

    def test_a_bucket_is_made_listed_and_removed_when_empty(self, bucket: S3Settings) -> None:
        other = S3Store(bucket, f"{bucket.bucket}-b")
        other.create_bucket()
        other.create_bucket()
        assert {bucket.bucket, other.bucket} <= {one.name for one in list_buckets(bucket)}
        other.put("a", b"x")
        assert S3Store(bucket).head("a") is None
        with pytest.raises(Refused, match=r"BucketNotEmpty.*delete what is in it first"):
            other.delete_bucket()
        other.delete("a")
        other.delete_bucket()
        assert other.bucket not in {one.name for one in list_buckets(bucket)}
        with pytest.raises(NotFound):
            other.delete_bucket()
        with pytest.raises(NotFound, match="correct BUCKET"):
            other.put("a", b"x")

    @pytest.mark.parametrize("name", ["a--b", "Upper", "ab", "a.-b"])
    def test_a_name_that_cortx_refuses_is_not_asked_for(self, bucket: S3Settings, name: str) -> None:
        with pytest.raises(Refused, match=r"no two of . - side by side"):
            S3Store(bucket, name).create_bucket()

    def test_a_wrong_bucket_is_not_found_and_named(self, bucket: S3Settings) -> None:
        missing = S3Store(dataclasses.replace(bucket, bucket=f"{bucket.bucket}-not"))
        with pytest.raises(NotFound, match=r"no bucket '.*-not'.*create it, or correct BUCKET"):
            missing.check()
