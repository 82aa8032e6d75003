"""Files to and from a store: `python -m sidecar upload|download` beside `aws s3 cp --recursive`, each a process of its own.

Both talk to the same stand-in for CORTX in its strictest profile, so both are held to the same limits: signatures, path
style, no checksum trailers, parts one after another in multiples of 1 MiB. The AWS tool is set as fast as these limits
let it be: ten requests at once wherever no parts are sent (its default), one at a time for the upload in parts. It is
not asked to verify what ours verifies (MD5 of what was sent and fetched, size and checksum of what is there).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Measured, measured
from benchmarks.row import Row, less_is_better, more_is_better
from bridge.edges.s3 import open_store
from bridge.settings import S3Settings
from stack.machine import started, temporary_setup
from stack.settings import program_environment

ROOT = Path(__file__).parents[1]
AWS = ROOT / ".venv-bench" / "bin" / "aws"
ROUNDS = 2
SMALL_FILES, SMALL_BYTES = 1000, 20_000
LARGE_BYTES = 200_000_000
_AWS_CONFIG = """[default]
region = us-east-1
request_checksum_calculation = when_required
response_checksum_validation = when_required
s3 =
    addressing_style = path
    signature_version = s3v4
    multipart_threshold = 64MB
    multipart_chunksize = 16MB
    max_concurrent_requests = {at_once}
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder to move, and how much is in it."""

    name: str
    files: int
    size_bytes: int
    aws_parts: bool

    @property
    def total_bytes(self) -> int:
        return self.files * self.size_bytes


CASES = (
    Case(name="1,000 x 20 kB", files=SMALL_FILES, size_bytes=SMALL_BYTES, aws_parts=False),
    Case(name="1 x 200 MB", files=1, size_bytes=LARGE_BYTES, aws_parts=True),
)


def measure() -> list[Row]:
    """Files or MB a second and peak memory of each way, best of two rounds taken in turn."""
    make_aws()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = temporary_setup(Path(folder) / "stack", os.environ, **_NOBODY)
        with started(setup, only={"s3"}):
            environment = program_environment(setup)
            for case in CASES:
                rows += _case(case, environment, Path(folder))
    return rows


_NOBODY = {"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "0" * 40}


def make_aws() -> None:
    """An environment of its own with the AWS tool, when it is not there yet."""
    subprocess.run(
        [ROOT / "stack" / "setup.sh", "bench"], check=True, env={"PYTHON": sys.executable, **os.environ}
    )


def write_files(folder: Path, case: Case) -> None:
    """Bytes that differ from file to file and do not compress, the same in each run."""
    folder.mkdir()
    source = random.Random(7)
    for number in range(case.files):
        (folder / f"{number:04}.jpg").write_bytes(source.randbytes(case.size_bytes))


def _case(case: Case, environment: Mapping[str, str], folder: Path) -> list[Row]:
    source, target = folder / "source", folder / "target"
    write_files(source, case)
    settings = S3Settings.from_env(environment)
    ours, aws = Ours(environment, folder, settings.bucket), Aws(settings, folder)
    found: dict[tuple[str, str], list[Measured]] = {}

    def note(way: str, what: str, run: Callable[[], Measured]) -> None:
        found.setdefault((way, what), []).append(run())

    for _ in range(ROUNDS):
        for name, way in (("ours", ours), ("aws", aws)):
            empty(settings)
            note(name, "upload", lambda way=way: way.upload(source, case))  # type: ignore[misc]
            note(name, "download", lambda way=way: way.download(target, case))  # type: ignore[misc]
            same(source, target)
            shutil.rmtree(target)
    empty(settings)
    shutil.rmtree(source)
    rows = []
    for what in ("upload", "download"):
        rows += rows_of(case, what, found[("ours", what)], found[("aws", what)])
    return rows


def rows_of(case: Case, what: str, ours: list[Measured], aws: list[Measured]) -> list[Row]:
    """The rate of the best round, and the most memory of any."""
    other_is = "aws s3 cp --recursive"
    amount, unit = (case.files, "files/s") if case.files > 1 else (case.total_bytes / 1e6, "MB/s")
    rate, memory = f"{what} {case.name}", f"{what} {case.name}, memory"
    return [
        more_is_better(
            rate,
            unit,
            amount / min(one.seconds for one in ours),
            amount / min(one.seconds for one in aws),
            other_is,
        ),
        less_is_better(
            memory, "MiB", max(one.peak_mib for one in ours), max(one.peak_mib for one in aws), other_is
        ),
    ]


def empty(settings: S3Settings) -> None:
    store = open_store(settings)
    store.delete_many([info.key for info in store.keys("bench/")])


def same(source: Path, target: Path) -> None:
    """Raises AssertionError when something came back otherwise than it went: then there is nothing to compare."""
    for path in source.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes(), path.name


class Ours:
    def __init__(self, environment: Mapping[str, str], folder: Path, bucket: str) -> None:
        self._environment = {**environment, "PYTHONPATH": str(ROOT)}
        self._folder, self._place = folder, f"s3://{bucket}/bench"

    def upload(self, source: Path, case: Case) -> Measured:
        return self._run("upload", str(source), self._place)

    def download(self, target: Path, case: Case) -> Measured:
        return self._run("download", self._place, str(target))

    def _run(self, *words: str) -> Measured:
        return measured([sys.executable, "-m", "sidecar", *words], self._environment, self._folder)


class Aws:
    def __init__(self, settings: S3Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def upload(self, source: Path, case: Case) -> Measured:
        return self._run(str(source), self._place, at_once=1 if case.aws_parts else 10)

    def download(self, target: Path, case: Case) -> Measured:
        return self._run(self._place, str(target), at_once=10)

    @property
    def _place(self) -> str:
        return f"s3://{self._settings.bucket}/bench"

    def _run(self, source: str, target: str, *, at_once: int) -> Measured:
        config = self._folder / "aws.config"
        config.write_text(_AWS_CONFIG.format(at_once=at_once))
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "AWS_CONFIG_FILE": str(config),
            "AWS_ACCESS_KEY_ID": self._settings.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self._settings.secret_access_key,
        }
        command = [str(AWS), "--endpoint-url", self._settings.endpoint_url, "s3", "cp", "--recursive"]
        return measured([*command, "--only-show-errors", source, target], environment, self._folder)
