"""The bucket commands as an operator runs them, against a store over HTTP."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.edges import transfer
from bridge.edges.s3 import S3Store
from bridge.errors import SenderError
from bridge.settings import MIB, S3Settings
from bridge.transfer import Item
from sidecar.cli import cli
from tests.integration.conftest import ROOT, cortx_server
from tests.integration.test_s3_client import settings_for

UID = "3.1795312966"


class Operator:
    """Runs commands with the settings of the store alone in the environment."""

    def __init__(self, settings: S3Settings) -> None:
        self.environ = {
            "AWS_ENDPOINT_URL_S3": settings.endpoint_url,
            "AWS_ACCESS_KEY_ID": settings.access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.secret_access_key,
            "BUCKET": settings.bucket,
            "BUCKET_PREFIX": settings.bucket_prefix,
        }
        self.bucket = settings.bucket

    def __call__(self, *args: str, answer: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(cli, args, env=self.environ, input=answer, prog_name="python -m sidecar")
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def place(self, key: str = "") -> str:
        return f"s3://{self.bucket}/{key}"


@pytest.fixture
def run(s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.chdir(tmp_path)
    return Operator(s3_settings)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "night").mkdir(parents=True)
    (folder / "cat.jpg").write_bytes(b"cat")
    (folder / "night" / "owl +%ü.jpg").write_bytes(b"owl")
    (folder / "empty.txt").write_bytes(b"")
    return folder


def keys(store: S3Store) -> list[str]:
    return [info.key for info in store.keys("")]


def test_a_bucket_is_created_listed_and_deleted(run: Operator) -> None:
    run("bucket", "create", run.bucket)
    run("bucket", "create", run.bucket)
    assert run.bucket in run("bucket", "list").stdout.splitlines()
    assert run.bucket in json.loads(run("bucket", "list", "--json").stdout)
    run("bucket", "delete", run.bucket)
    assert run.bucket not in run("bucket", "list").stdout
    assert "no such bucket" in run("ls", run.place(), code=1).stderr.lower().replace(
        "nosuchbucket", "no such bucket"
    )


@pytest.mark.parametrize("name", ["a--b", "Upper", "ab", "-a-b", "a..b"])
def test_a_name_that_cortx_refuses_is_refused_before_it_is_sent(run: Operator, name: str) -> None:
    assert "3 to 63" in run("bucket", "create", "--", name, code=1).stderr


def test_a_folder_goes_up_and_comes_down_as_it_was(
    run: Operator, store: S3Store, pictures: Path, tmp_path: Path
) -> None:
    said = run("upload", str(pictures), run.place("images")).stdout
    assert "3 sent (6 B)" in said
    assert keys(store) == ["images/cat.jpg", "images/empty.txt", "images/night/owl +%ü.jpg"]
    run("download", run.place("images"), str(tmp_path / "back"))
    assert (tmp_path / "back" / "night" / "owl +%ü.jpg").read_bytes() == b"owl"
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["cat.jpg", "empty.txt", "night"]


def test_a_second_run_sends_only_what_has_changed(run: Operator, store: S3Store, pictures: Path) -> None:
    run("upload", str(pictures), run.place("images"))
    (pictures / "cat.jpg").write_bytes(b"dog")
    (pictures / "new.jpg").write_bytes(b"new")
    said = json.loads(run("upload", str(pictures), run.place("images/"), "--json").stdout)
    assert [item["name"] for item in said["sent"]] == ["cat.jpg", "new.jpg"]
    assert store.get("images/cat.jpg") == b"dog"
    assert "4 sent" in run("upload", str(pictures), run.place("images"), "--force").stdout
    assert "4 unchanged" in run("upload", str(pictures), run.place("images")).stdout


def test_a_second_download_fetches_only_what_has_changed(
    run: Operator, store: S3Store, pictures: Path, tmp_path: Path
) -> None:
    run("upload", str(pictures), run.place("images"))
    back = tmp_path / "back"
    run("download", run.place("images/"), str(back))
    (back / "cat.jpg").write_bytes(b"c")
    said = run("download", run.place("images/"), str(back)).stdout
    assert "1 fetched (3 B), 2 unchanged" in said
    assert (back / "cat.jpg").read_bytes() == b"cat"


def test_a_dry_run_changes_nothing(run: Operator, store: S3Store, pictures: Path, tmp_path: Path) -> None:
    assert "3 would be sent" in run("upload", str(pictures), run.place("a"), "--dry-run").stdout
    assert keys(store) == []
    run("upload", str(pictures), run.place("a"))
    run("download", run.place("a"), str(tmp_path / "back"), "--dry-run")
    assert not (tmp_path / "back").exists()
    run("rm", "-r", run.place("a"), "--dry-run")
    assert len(keys(store)) == 3


def test_one_file_is_sent_below_the_prefix_and_fetched_under_any_name(
    run: Operator, store: S3Store, pictures: Path, tmp_path: Path
) -> None:
    run("upload", str(pictures / "cat.jpg"), run.place("images"))
    assert keys(store) == ["images/cat.jpg"]
    run("download", run.place("images/cat.jpg"), str(tmp_path / "kitten.jpg"))
    assert (tmp_path / "kitten.jpg").read_bytes() == b"cat"
    run("download", run.place("images/cat.jpg"), str(tmp_path))
    assert (tmp_path / "cat.jpg").read_bytes() == b"cat"
    assert "1 unchanged" in run("download", run.place("images/cat.jpg"), str(tmp_path)).stdout


def test_names_that_would_leave_the_folder_are_refused_and_the_others_come(
    run: Operator, store: S3Store, tmp_path: Path
) -> None:
    for name in ("good.txt", "../out.txt", "/abs.txt", "a/../../out.txt", "clash", "clash/inner.txt"):
        store.put(f"in/{name}", b"x")
    said = run("download", run.place("in/"), str(tmp_path / "deep" / "target"), code=1)
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["deep/target/clash/inner.txt", "deep/target/good.txt"]
    assert said.stdout.count("FAILED") == 4
    assert "leave the folder" in said.stdout


def test_a_link_in_the_target_folder_leads_nowhere_else(
    run: Operator, store: S3Store, tmp_path: Path
) -> None:
    store.put("in/sub/file.txt", b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path / "elsewhere")
    assert "link" in run("download", run.place("in"), str(tmp_path / "target"), code=1).stdout
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_prefix_is_deleted_only_after_a_yes(run: Operator, store: S3Store, pictures: Path) -> None:
    run("upload", str(pictures), run.place("images"))
    store.put("images-old/cat.jpg", b"cat")
    said = run("rm", "-r", run.place("images"), answer="n\n", code=1)
    assert "3 objects (6 B)" in said.stderr
    assert len(keys(store)) == 4
    run("rm", "-r", run.place("images"), answer="y\n")
    assert keys(store) == ["images-old/cat.jpg"]
    run("rm", run.place("images-old/cat.jpg"))
    assert keys(store) == []
    assert "nothing at" in run("rm", run.place("images-old/cat.jpg"), code=1).stderr


def test_a_bucket_with_something_in_it_is_deleted_only_after_a_yes(run: Operator, store: S3Store) -> None:
    store.put("one", b"1")
    run("bucket", "delete", run.bucket, answer="\n", code=1)
    assert keys(store) == ["one"]
    run("bucket", "delete", run.bucket, "--yes")
    assert run.bucket not in run("bucket", "list").stdout


@pytest.mark.parametrize(
    "command", [("rm", "-r", "{place}team-a"), ("rm", "-r", "{place}"), ("bucket", "delete", "{bucket}")]
)
def test_the_record_is_deleted_only_with_a_flag_of_its_own(
    run: Operator, store: S3Store, command: tuple[str, ...]
) -> None:
    store.put(f"team-a/projects/{UID}/log/2026/11/22/x.jsonl", b"record")
    args = [arg.format(place=run.place(), bucket=run.bucket) for arg in command]
    said = run(*args, "--yes", code=1).stderr
    assert f"project {UID}" in said
    assert "what annotators did" in said
    assert len(keys(store)) == 1
    run(*args, "--even-the-record", answer="n\n", code=1)
    assert len(keys(store)) == 1
    run(*args, "--even-the-record", "--yes")


def test_one_object_of_the_record_needs_the_flag_too(run: Operator, store: S3Store) -> None:
    key = f"another-team/projects/{UID}/log/2026/11/22/x.jsonl"
    store.put(key, b"record")
    run("rm", run.place(key), code=1)
    assert keys(store) == [key]


def test_nothing_is_uploaded_into_the_record(run: Operator, store: S3Store, pictures: Path) -> None:
    said = run("upload", str(pictures), run.place(f"team-a/projects/{UID}/log"), code=1)
    assert "record" in said.stdout
    assert keys(store) == []


def test_ls_folds_folders_and_lists_all_when_asked(run: Operator, store: S3Store) -> None:
    for key in ("a/1", "a/2", "b", "\x1b[2Jevil"):
        store.put(key, b"12345")
    rows = json.loads(run("ls", run.place(), "--json").stdout)
    assert [(row["name"], row["objects"]) for row in rows] == [("\x1b[2Jevil", 1), ("a/", 2), ("b", 1)]
    assert len(run("ls", "-r", run.place()).stdout.splitlines()) == 4
    assert "\x1b" not in run("ls", run.place()).stdout
    assert [row["name"] for row in json.loads(run("ls", run.place("a/"), "--json").stdout)] == ["a/1", "a/2"]


def test_what_is_wrong_with_a_file_costs_only_that_file(
    run: Operator, store: S3Store, pictures: Path
) -> None:
    (pictures / "dangling").symlink_to(pictures / "nowhere")
    os.mkfifo(pictures / "pipe")
    deep = pictures / Path(*["d" * 220] * 5)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    said = run("upload", str(pictures), run.place("images"), code=1).stdout
    assert "3 sent" in said
    assert "3 failed" in said
    assert "vanished" in said
    assert "no plain file" in said
    assert "1024" in said


def test_a_wrong_place_or_folder_is_one_clear_line(run: Operator, store: S3Store) -> None:
    assert "s3://bucket" in run("ls", "pictures", code=1).stderr
    assert "no file or folder" in run("upload", "nowhere", run.place(), code=1).stderr
    assert "nothing" in run("download", run.place("nowhere"), "x", code=1).stderr
    assert "whole bucket" in run("rm", run.place(), code=1).stderr


def test_missing_settings_are_named_and_only_those_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["ls", "s3://pictures"])
    assert result.exit_code == 1
    assert "AWS_ENDPOINT_URL_S3" in result.stderr
    assert "REDIS_URL" not in result.stderr


# --- the functions behind them


def test_a_file_that_vanishes_while_the_folder_is_sent_is_named(store: S3Store, pictures: Path) -> None:
    class Vanishing:
        def start(self, files: int, size_bytes: int) -> None:
            (pictures / "cat.jpg").unlink()

        def moved(self, size_bytes: int) -> None: ...

        def finished(self, item: Item, why: str) -> None: ...

    report = transfer.upload(store, pictures, "images/", progress=Vanishing())
    assert [(bad.name, bad.why) for bad in report.failed] == [("cat.jpg", "it has vanished")]
    assert len(report.sent) == 2


def test_an_interrupted_upload_goes_on_where_it_was(store: S3Store, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}").write_bytes(b"x" * number)

    class CtrlC:
        done = 0

        def start(self, files: int, size_bytes: int) -> None: ...

        def moved(self, size_bytes: int) -> None: ...

        def finished(self, item: Item, why: str) -> None:
            self.done += 1
            if self.done == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.upload(store, folder, "many/", progress=CtrlC())
    there = len(keys(store))
    assert 10 <= there < 60
    report = transfer.upload(store, folder, "many/")
    assert (len(report.skipped), len(report.sent)) == (there, 60 - there)


def test_no_room_for_a_download_leaves_no_half_file(run: Operator, store: S3Store, tmp_path: Path) -> None:
    """The kernel refuses to write past a limit, in the middle of the second file."""
    store.put("in/small.txt", b"small")
    store.put("in/large.bin", bytes(2 * MIB))
    target = tmp_path / "target"
    target.mkdir()
    (target / "large.bin").write_bytes(b"as it was")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "download", run.place("in"), str(target)],
        env={**run.environ, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert "FAILED  large.bin: File too large" in done.stdout
    assert "1 fetched (5 B), 1 failed" in done.stdout
    found = {path.name: path.read_bytes() for path in target.iterdir()}
    assert found == {"large.bin": b"as it was", "small.txt": b"small"}


def test_a_folder_that_vanishes_while_it_is_sent_is_named_file_by_file(
    store: S3Store, pictures: Path
) -> None:
    class Vanishing:
        def start(self, files: int, size_bytes: int) -> None:
            shutil.rmtree(pictures)

        def moved(self, size_bytes: int) -> None: ...

        def finished(self, item: Item, why: str) -> None: ...

    store.put("other", b"stays")
    report = transfer.upload(store, pictures, "images/", progress=Vanishing())
    assert {bad.why for bad in report.failed} == {"it has vanished"}
    assert (len(report.failed), len(report.sent)) == (3, 0)
    assert keys(store) == ["other"]


def test_a_key_that_may_only_read_reads_and_changes_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with cortx_server(tmp_path, "s3server-doc", "--read-only-key", "reader-key:reader-secret") as url:
        owner = settings_for(url)
        S3Store(owner).create_bucket()
        S3Store(owner).put("images/cat.jpg", b"old")
        reader = Operator(replace(owner, access_key_id="reader-key", secret_access_key="reader-secret"))
        said = reader("upload", str(pictures), reader.place("images"), code=1).stdout
        assert said.count("FAILED") == 3
        assert said.count("AccessDenied") == said.count("check the bucket policy") == 3
        for command in (
            ("rm", reader.place("images/cat.jpg")),
            ("bucket", "delete", reader.bucket, "--yes"),
            ("bucket", "create", "one-more"),
        ):
            result = reader(*command, code=1)
            assert "check the bucket policy" in result.output
        assert "cat.jpg" in reader("ls", reader.place("images/")).stdout
        reader("download", reader.place("images"), str(tmp_path / "back"))
        assert (tmp_path / "back" / "cat.jpg").read_bytes() == b"old"
        assert keys(S3Store(owner)) == ["images/cat.jpg"]


def test_a_prefix_without_its_slash_is_refused(store: S3Store, tmp_path: Path) -> None:
    with pytest.raises(SenderError, match="slash"):
        transfer.upload(store, tmp_path, "images")


def test_ctrl_c_ends_an_upload_with_a_word_and_the_next_one_goes_on(
    run: Operator, store: S3Store, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}").write_bytes(b"x" * 5000)
    words = [sys.executable, "-m", "sidecar", "upload", "--at-once", "2", str(folder), run.place("many")]
    environ = {**run.environ, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environ, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as upload:
        deadline = time.monotonic() + 60
        while not keys(store):
            assert upload.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        upload.send_signal(signal.SIGINT)
        _, said = upload.communicate(timeout=60)
    assert upload.returncode == 130
    assert said.splitlines() == ["Stopped. Run the same command again: it goes on with what is missing."]
    there = len(keys(store))
    assert 1 <= there < 400
    assert f"{400 - there} sent" in (again := run("upload", str(folder), run.place("many")).stdout)
    assert f"{there} unchanged" in again
