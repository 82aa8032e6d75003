"""One stand-in for each generation of CORTX, for all tests of its rules: by requests made by hand, and by boto3 as it
comes. Each test uses keys of its own in the one bucket, `box`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import cortx_server
from tests.integration.cortx import DOC, HEAD, READER, RGW, STRANGER, Raw

MORE_KEYS = ("--stranger-key", f"{STRANGER}:secret", "--read-only-key", f"{READER}:secret")


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Profile -> address."""
    folder = tmp_path_factory.mktemp
    with (
        cortx_server(folder("doc"), DOC, *MORE_KEYS) as doc,
        cortx_server(folder("head"), HEAD, "--no-tripwire") as head,
        cortx_server(folder("rgw"), RGW, *MORE_KEYS) as rgw,
    ):
        found = {DOC: doc, HEAD: head, RGW: rgw}
        for url in found.values():
            assert Raw(url=url).send("PUT", "/box").status_code == 200
        yield found


@pytest.fixture(params=[DOC, HEAD, RGW])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def raw(servers: dict[str, str], profile: str) -> Raw:
    return Raw(url=servers[profile])


@pytest.fixture
def doc(servers: dict[str, str]) -> Raw:
    return Raw(url=servers[DOC])
