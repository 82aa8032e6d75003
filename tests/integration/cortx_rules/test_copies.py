"""The stand-in for CORTX: copies. Each rule bites."""

from __future__ import annotations

import httpx
import pytest

from cortx_emulation.answers import Answer, Refusal
from cortx_emulation.profiles import GIB, PROFILES, Options
from cortx_emulation.request import S3Request
from cortx_emulation.rules import copies
from tests.integration.cortx import DOC, S3SERVER, Raw, by, said


@pytest.mark.parametrize("directive", ["x_amz_metadata_directive", "x_amz_tagging_directive"])
def test_a_copy_keeps_what_the_source_has(doc: Raw, directive: str) -> None:
    doc.send("PUT", "/box/from", b"x")

    def copy(word: str) -> httpx.Response:
        return doc.send("PUT", "/box/to", x_amz_copy_source="/box/from", **{directive: word})

    assert copy("COPY").status_code == 200
    assert said(copy("REPLACE")) == (501, "NotImplemented")
    assert said(copy("OTHER")) == (400, "InvalidArgument")


def test_a_copy_onto_itself_is_refused(raw: Raw, profile: str) -> None:
    raw.send("PUT", "/box/self", b"x")
    found = said(raw.send("PUT", "/box/self", x_amz_copy_source="/box/self"))
    assert found == by(profile, (400, "InvalidRequest"), (501, "NotImplemented"))


def test_a_copy_has_5_gib_at_most() -> None:
    request = S3Request(
        {"REQUEST_METHOD": "PUT", "RAW_URI": "/box/to", "HTTP_X_AMZ_COPY_SOURCE": "/box/from"}
    )

    def check(size_bytes: int) -> None:
        source = Answer(status=200, headers=(("Content-Length", str(size_bytes)),))
        copies.check(request, PROFILES[DOC], Options(), lambda method, path: source)

    check(5 * GIB)
    with pytest.raises(Refusal, match="InvalidRequest"):
        check(5 * GIB + 1)


@pytest.mark.parametrize("profile", S3SERVER)
def test_a_part_cannot_be_copied(raw: Raw) -> None:
    upload_id = raw.initiate("/box/part-copy")
    path = f"/box/part-copy?partNumber=1&uploadId={upload_id}"
    assert said(raw.send("PUT", path, x_amz_copy_source="/box/from")) == (501, "NotImplemented")
    raw.send("DELETE", f"/box/part-copy?uploadId={upload_id}")
