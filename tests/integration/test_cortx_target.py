"""`make cortx-test`: its variables reach the suite, which leaves nothing behind on the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.edges.s3 import list_buckets
from tests.integration.conftest import ACCESS_KEY, ROOT, SECRET_KEY
from tests.integration.test_s3_client import settings_for
from tests.integration.test_s3_tls import certificate, https

__all__ = ["certificate", "https"]  # fixtures


def make(tmp_path: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """The target with the Python of these tests instead of .venv, and one test of the suite for its forty."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("S3_TEST_")}
    environment["PYTEST_ADDOPTS"] = f"-p no:cacheprovider -k odd_keys --basetemp={tmp_path / 'suite'}"
    words = ["make", "--old-file=setup-main", "cortx-test", f"VENV_PYTHON={sys.executable}", *variables]
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_suite_gets_address_keys_and_ca(https: str, certificate: tuple[str, str], tmp_path: Path) -> None:
    given = [f"S3_TEST_ENDPOINT_URL={https}", f"S3_TEST_ACCESS_KEY={ACCESS_KEY}"]
    given += [f"S3_TEST_SECRET_KEY={SECRET_KEY}", f"S3_TEST_CA_BUNDLE={certificate[0]}"]
    done = make(tmp_path, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert list_buckets(settings_for(https, ca_bundle=certificate[0])) == []
    without_ca = make(tmp_path, *given[:-1])
    assert without_ca.returncode != 0
    assert "AWS_CA_BUNDLE" in without_ca.stdout


@pytest.mark.parametrize("given", [(), ("S3_TEST_ENDPOINT_URL=http://127.0.0.1:9", "S3_TEST_ACCESS_KEY=a")])
def test_what_is_missing_is_named_before_anything_is_asked(given: tuple[str, ...], tmp_path: Path) -> None:
    done = make(tmp_path, *given)
    assert done.returncode != 0
    assert "S3_TEST_SECRET_KEY not given" in done.stderr
    assert ("S3_TEST_ENDPOINT_URL, S3_TEST_ACCESS_KEY," in done.stderr) is (given == ())
