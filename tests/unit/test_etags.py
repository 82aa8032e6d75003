"""Checksums as S3 stores tell them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.etags import MIB, RunningEtag, composite, md5_of, part_count, plain_md5, possible_part_bytes

ONE = "900150983cd24fb0d6963f7d28e17f72"  # of b"abc"


@pytest.mark.parametrize(
    ("etag", "md5", "parts"),
    [
        (f'"{ONE}"', ONE, None),  # a single put
        (ONE.upper(), ONE, None),  # some servers leave out the quotes
        (f'"{ONE}-7"', None, 7),  # in parts
        (f'"{ONE}-0"', None, None),
        ('"0x8D9"', None, None),  # no checksum
        ("", None, None),
    ],
)
def test_only_a_checksum_is_taken_for_one(etag: str, md5: str | None, parts: int | None) -> None:
    assert (plain_md5(etag), part_count(etag)) == (md5, parts)


@given(st.binary(max_size=200), st.integers(1, 50), st.integers(1, 30))
def test_bytes_in_pieces_have_the_etag_of_the_whole(body: bytes, part_bytes: int, piece: int) -> None:
    whole, in_parts = RunningEtag(None), RunningEtag(part_bytes)
    for start in range(0, len(body), piece):
        whole.add(body[start : start + piece])
        in_parts.add(body[start : start + piece])
    parts = [body[start : start + part_bytes] for start in range(0, len(body), part_bytes)] or [b""]
    assert whole.value() == md5_of(body)
    assert in_parts.value() == composite(md5_of(part) for part in parts)


def test_the_part_lengths_of_an_object_are_those_that_give_its_number_of_parts() -> None:
    assert possible_part_bytes(100 * MIB, 7, 16 * MIB) == [16 * MIB, 15 * MIB]
    assert possible_part_bytes(100 * MIB, 13, 16 * MIB) == [8 * MIB]
    assert possible_part_bytes(100 * MIB, 99, 16 * MIB) == []
