"""The supervisor over real processes: small ones made for one behaviour each, and the real Redis and S3 endpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from bridge.errors import NotFound
from stack import machine
from stack.errors import StackError
from stack.health import connect
from stack.machine import (
    find_redis_server,
    make_bucket,
    missing_tools,
    only_one,
    started,
    store_of,
    temporary_setup,
)
from stack.parts import Health, Part
from stack.ports import free_ports
from stack.settings import Setup
from stack.supervisor import Stack
from tests.integration.conftest import ACCESS_KEY, SECRET_KEY

STAYS = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAYS
DIES = "import sys\nprint('my last words', flush=True)\nsys.exit(3)"


def script(name: str, code: str, folder: Path, *words: str, **changes: object) -> Part:
    values = {"env": dict(os.environ), "cwd": folder, "timeout_s": 20.0, "stop_grace_s": 5.0} | changes
    return Part(name=name, argv=(sys.executable, "-c", textwrap.dedent(code), *words), **values)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether a process that is not ours to wait for still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Said:
    """What the stack and its parts said, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def text(self) -> str:
        return "\n".join(f"{name}: {line}" for name, line in self.lines)


def test_parts_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    code = """
        import signal, sys, time
        def write(word):
            with open(sys.argv[1], "a") as file: file.write(word + " " + sys.argv[2] + "\\n")
        signal.signal(signal.SIGTERM, lambda *_: (write("stop"), sys.exit(0)))
        write("start")
        time.sleep(60)
    """
    parts = [
        script("upper", code, tmp_path, str(diary), "upper", after=("middle",)),
        script("middle", code, tmp_path, str(diary), "middle", after=("lower",)),
        script("lower", code, tmp_path, str(diary), "lower"),
    ]
    with Stack(parts, log_dir=tmp_path / "logs"):
        pass
    starts = ["start lower", "start middle", "start upper"]
    assert diary.read_text().splitlines() == [*starts, "stop upper", "stop middle", "stop lower"]


def test_a_part_that_ends_while_starting_is_named_with_its_last_words_and_stops_the_rest(
    tmp_path: Path,
) -> None:
    stack = Stack(
        [script("fine", STAYS, tmp_path), script("broken", DIES, tmp_path)], log_dir=tmp_path / "logs"
    )
    with (
        pytest.raises(
            StackError, match="broken ended with exit code 3 while the stack was starting"
        ) as caught,
        stack,
    ):
        pass
    assert caught.value.lines == ("my last words",)
    assert str(tmp_path / "logs" / "broken.log") in str(caught.value)
    assert not stack.is_running("fine")


def test_a_part_that_never_gets_well_is_named_after_its_time(tmp_path: Path) -> None:
    [port] = free_ports(1)
    part = script(
        "deaf",
        STAYS,
        tmp_path,
        health=Health.HTTP,
        health_url=f"http://127.0.0.1:{port}/health",
        timeout_s=0.5,
    )
    with (
        pytest.raises(StackError, match=r"deaf is not up after 0\.5 s"),
        Stack([part], log_dir=tmp_path / "logs"),
    ):
        pass


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    part = Part(name="ghost", argv=(str(tmp_path / "nothing"),), env={}, cwd=tmp_path)
    with pytest.raises(StackError, match=r"ghost cannot be started: .*nothing: No such file.*make setup"):
        Stack([part], log_dir=tmp_path / "logs").start()


def test_a_part_that_dies_later_ends_the_stack(tmp_path: Path) -> None:
    stack = Stack(
        [script("store", STAYS, tmp_path), script("other", STAYS, tmp_path)], log_dir=tmp_path / "logs"
    )
    with stack:
        os.kill(stack.pid("store"), signal.SIGKILL)
        with pytest.raises(StackError, match="store was ended by signal 9: everything is stopped"):
            stack.watch()
    assert not stack.is_running("other")


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    said = Said()
    part = script("worker", STAYS, tmp_path, restart=True)
    with Stack([part], log_dir=tmp_path / "logs", say=said) as stack:
        first = stack.pid("worker")
        os.kill(first, signal.SIGKILL)
        assert wait_for(lambda: not alive(first))
        end = time.monotonic() + 15
        stack.watch(until=lambda: "was started again" in said.text() or time.monotonic() > end)
        assert stack.is_running("worker")
        assert stack.pid("worker") != first
    assert "worker was ended by signal 9; it is started again in 0.5 s" in said.text()


def test_a_part_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    said = Said()
    with Stack(
        [script("stubborn", STUBBORN, tmp_path, stop_grace_s=0.3)], log_dir=tmp_path / "logs", say=said
    ) as stack:
        pid = stack.pid("stubborn")
    assert not alive(pid)
    assert "stubborn did not stop within 0.3 s and is killed" in said.text()


def test_what_a_part_started_ends_with_it(tmp_path: Path) -> None:
    code = f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    said = Said()
    with Stack([script("parent", code, tmp_path)], log_dir=tmp_path / "logs", say=said) as stack:
        assert wait_for(lambda: any(name == "parent" for name, _ in said.lines))
        child = int(next(line for name, line in said.lines if name == "parent"))
        assert alive(child)
        stack.stop_part("parent")
        assert wait_for(lambda: not alive(child))


def test_a_stack_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from tests.integration.test_stack import STAYS, script
        from stack.supervisor import Stack
        folder = Path(sys.argv[1])
        stack = Stack([script("part", STAYS, folder)], log_dir=folder / "logs")
        stack.start()
        print(stack.pid("part"), flush=True)
        signal.pause()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        cwd=machine.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdout is not None
        pid = int(killed.stdout.readline())
        killed.kill()
    assert wait_for(lambda: not alive(pid))


def test_every_line_is_in_the_log_file_and_the_last_run_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with Stack([script("part", STAYS, tmp_path)], log_dir=tmp_path / "logs"):
            pass
    assert (tmp_path / "logs" / "part.log").read_text() == "ready\n"
    assert (tmp_path / "logs" / "part.log.1").read_text() == "ready\n"


def test_one_part_can_be_stopped_and_started_while_the_others_go_on(tmp_path: Path) -> None:
    with Stack(
        [script("one", STAYS, tmp_path), script("two", STAYS, tmp_path)], log_dir=tmp_path / "logs"
    ) as stack:
        two = stack.pid("two")
        stack.stop_part("one")
        stack.look()  # a part stopped on purpose is not a dead one
        assert not stack.is_running("one")
        stack.start_part("one")
        stack.kill_part("one")
        stack.look()
        stack.start_part("one")
        assert stack.is_running("one")
        assert stack.pid("two") == two


def test_metrics_of_an_earlier_run_are_gone_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_1.db").write_text("old")
    with Stack([script("part", STAYS, tmp_path, emptied=(folder,))], log_dir=tmp_path / "logs"):
        assert list(folder.iterdir()) == []


STORES = ("redis", "s3")
"""Parts that start in seconds."""


def own_setup(folder: Path, **chosen: str) -> Setup:
    """A stack of its own that finds a Label Studio installed, whether there is one or not: it is not started."""
    return temporary_setup(folder, {**os.environ, "LABEL_STUDIO_VENV": sys.prefix}, **chosen)


def test_redis_and_the_bucket_are_there_and_redis_keeps_its_data_between_runs(tmp_path: Path) -> None:
    setup = own_setup(tmp_path / "run")
    with started(setup, only=STORES) as stack:
        store_of(setup).check()
        with connect(setup.redis_url) as client:
            client.xadd("events", {"body": "kept"})
        stack.kill_part("redis")  # what it said yes to must be there even so
        stack.start_part("redis")
        store_of(setup).put("images/a.jpg", b"picture")
    with started(setup, only=STORES):
        with connect(setup.redis_url) as client:
            [(_, fields)] = client.xrange("events")
            assert fields == {"body": "kept"}
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert list(store_of(setup).keys()) == []  # moto's bucket lives in memory


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    setup = own_setup(tmp_path / "run")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", setup.settings.s3_port))
        holder.listen()
        with (
            pytest.raises(StackError, match=rf"port {setup.settings.s3_port} \(s3\) is in use"),
            started(setup, only=STORES),
        ):
            pass
    assert not (setup.folder / "logs").exists()


def test_a_bucket_missing_at_a_real_endpoint_is_told_before_anything_starts(
    tmp_path: Path, s3_url: str
) -> None:
    setup = own_setup(
        tmp_path / "run",
        AWS_ENDPOINT_URL_S3=s3_url,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        BUCKET="nobody-made-it",
    )
    with (
        pytest.raises(NotFound, match=r"no bucket 'nobody-made-it'.*correct BUCKET"),
        started(setup, only=STORES),
    ):
        pass
    make_bucket(setup)
    with started(setup, only=STORES) as stack:
        assert set(stack.parts) == {"redis"}


def test_a_missing_label_studio_is_told_with_what_to_do(tmp_path: Path) -> None:
    setup = temporary_setup(tmp_path / "run", {**os.environ, "LABEL_STUDIO_VENV": str(tmp_path / "nothing")})
    lines = missing_tools(setup, None)
    assert any("redis-server is missing: run `make setup`" in line for line in lines)
    assert any(
        f"Label Studio is missing in {tmp_path / 'nothing'}: run `make setup`" in line for line in lines
    )


def test_two_stacks_in_one_folder_are_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(StackError, match="another stack is running"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_redis_server_is_found() -> None:
    assert find_redis_server() is not None


def test_a_client_for_health_fails_at_once() -> None:
    [port] = free_ports(1)
    begun = time.monotonic()
    with contextlib.suppress(redis.ConnectionError), connect(f"redis://127.0.0.1:{port}/0") as client:
        client.ping()
    assert time.monotonic() - begun < 1.0
