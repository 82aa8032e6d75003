"""The stand-in for CORTX: faults, and the overwrite window of CORTX-RGW. Each rule bites."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
from click.testing import CliRunner

from cortx_emulation.__main__ import main
from cortx_emulation.faults import Faults, Kind
from cortx_emulation.profiles import MIB
from cortx_emulation.request import S3Request
from tests.integration.conftest import cortx_server
from tests.integration.cortx import CONTROL, RGW, Raw, by, field, said

FAULT = "x_emulation_fault"


def test_a_busy_store_says_when_to_come_back(raw: Raw, profile: str) -> None:
    answer = raw.send("PUT", "/box/busy", b"x", **{FAULT: "busy"})
    assert said(answer) == by(profile, (503, "ServiceUnavailable"), (503, "SlowDown"))
    assert raw.send("HEAD", "/box/busy").status_code == 404
    late = raw.send("PUT", "/box/busy", b"x", **{FAULT: "busy-late"})
    assert late.status_code == 503
    assert raw.send("GET", "/box/busy").content == b"x"


def test_an_answer_can_be_lost_after_the_write(doc: Raw) -> None:
    with pytest.raises(httpx.TransportError):
        doc.send("PUT", "/box/lost", b"x", **{FAULT: "lost"})
    assert doc.send("GET", "/box/lost").content == b"x"


def test_a_connection_can_end_in_the_middle(doc: Raw) -> None:
    with pytest.raises(httpx.TransportError):
        doc.send("PUT", "/box/half", b"x" * MIB, **{FAULT: "reset"})
    assert doc.send("HEAD", "/box/half").status_code == 404
    doc.send("PUT", "/box/half", b"x" * MIB)
    with pytest.raises(httpx.TransportError):
        doc.send("GET", "/box/half", **{FAULT: "reset"})


def test_a_client_can_be_told_that_it_was_too_slow(doc: Raw) -> None:
    answer = doc.send("PUT", "/box/slow", b"x", **{FAULT: "timeout"})
    assert said(answer) == (400, "RequestTimeout")


def test_a_long_operation_can_fail_inside_a_200(doc: Raw) -> None:
    doc.send("PUT", "/box/from", b"x")
    answer = doc.send("PUT", "/box/inside", x_amz_copy_source="/box/from", **{FAULT: "error-inside"})
    assert (answer.status_code, field(answer, "Code")) == (200, "InternalError")
    assert doc.send("HEAD", "/box/inside").status_code == 404


def test_a_fault_is_armed_for_chosen_requests(doc: Raw) -> None:
    armed = {"kind": "busy", "method": "PUT", "path": "/box/armed", "skip": 1, "times": 2}
    httpx.post(f"{doc.url}{CONTROL}/faults", json=armed).raise_for_status()
    assert doc.send("GET", "/box").status_code == 200
    found = [doc.send("PUT", "/box/armed", b"x").status_code for _ in range(4)]
    assert found == [200, 503, 503, 200]
    httpx.post(f"{doc.url}{CONTROL}/faults", json=armed | {"skip": 0}).raise_for_status()
    httpx.delete(f"{doc.url}{CONTROL}/faults").raise_for_status()
    assert doc.send("PUT", "/box/armed", b"x").status_code == 200


def test_faults_by_chance_are_those_of_their_seed() -> None:
    request = S3Request({"REQUEST_METHOD": "GET", "RAW_URI": "/box/a"})

    def met(text: str) -> list[Kind | None]:
        faults = Faults.parsed(text)
        return [faults.next(request) for _ in range(200)]

    assert met("7:0.2") == met("7:0.2") != met("8:0.2")
    assert 15 <= sum(kind is not None for kind in met("7:0.2")) <= 65
    assert set(met("7:1")) == set(Kind)
    assert set(met("7:0")) == {None}


def test_a_replaced_object_is_not_there_for_a_moment_on_rgw(tmp_path_factory: pytest.TempPathFactory) -> None:
    with cortx_server(tmp_path_factory.mktemp("gap"), RGW, "--overwrite-gap", "1.5") as url:
        raw = Raw(url=url)
        raw.send("PUT", "/box")
        begun = time.monotonic()
        raw.send("PUT", "/box/a", b"old")
        assert time.monotonic() - begun < 1  # a new key replaces nothing
        writer = threading.Thread(target=raw.send, args=("PUT", "/box/a", b"new"))
        writer.start()
        found = set()
        while writer.is_alive():
            found.add(raw.send("GET", "/box/a").status_code)
        writer.join()
        assert 404 in found
        assert raw.send("GET", "/box/a").content == b"new"


def test_a_key_may_not_be_missing_on_the_command_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    runner = CliRunner(env={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert "without a key nobody gets in" in runner.invoke(main, ["--port", "1"]).output
    assert "seed:rate" in runner.invoke(main, ["--port", "1", "--faults", "often"]).output
