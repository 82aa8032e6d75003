"""One stack for the chaos: Label Studio, Redis, the bucket behind a wire that can be cut, our programs, the proxy."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from chaos.hooks import HookProxy
from chaos.label_studio import LABEL_CONFIG, Person, picture, sign_up
from chaos.processes import Processes
from chaos.wire import Wire
from stack.machine import find_redis_server, make_bucket, run_program, store_of, temporary_setup
from stack.parts import Part, make_parts
from stack.ports import free_ports
from stack.settings import Setup, program_environment
from stack.terminal import Say

OURS = ("sidecar", "workers-live", "workers-baseline", "workers-other", "scheduler")
IN_BUCKET, UPLOADED, PLAIN = 6, 6, 28
SETTLED_WITHIN_S = 120
OFTEN = {"RECONCILE_SECONDS": "20", "SNAPSHOT_EVERY_RECORDS": "100"}
"""What is done rarely is done more often here, so that faults meet it."""


class Failed(Exception):
    """The chaos cannot go on; the message says why."""


@dataclass(kw_only=True)
class World:
    """What runs, and how to ask it from outside."""

    setup: Setup
    processes: Processes
    hooks: HookProxy
    wire: Wire
    say: Say
    changed: Mapping[str, str]
    owner: Person
    people: list[Person] = field(default_factory=list)

    @property
    def pristine(self) -> Path:
        """A copy of Label Studio's data as its first start left it."""
        return self.setup.folder / "label-studio-pristine"

    def status(self) -> dict[str, Any]:
        """The sidecar's own status; {} while it does not answer."""
        try:
            answer = httpx.get(
                f"{self.sidecar_url}/api/status",
                headers={"Authorization": f"Bearer {self.setup.secrets['API_TOKEN']}"},
                timeout=30,
                trust_env=False,
            )
        except httpx.HTTPError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    @property
    def sidecar_url(self) -> str:
        return f"http://127.0.0.1:{self.setup.settings.sidecar_port}"

    def gauges(self) -> dict[str, float]:
        """The sidecar's /metrics, names with their labels; {} while it does not answer."""
        try:
            text = httpx.get(f"{self.sidecar_url}/metrics", timeout=10, trust_env=False).text
        except httpx.HTTPError:
            return {}
        found = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def spooled(self) -> int:
        """Events in the spool, counted in its file: also while the sidecar is dead."""
        path = self.setup.folder / "spool" / "spool.sqlite3"
        if not path.exists():
            return 0
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5) as connection:
                return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
        except sqlite3.Error:
            return 0

    def waiting(self) -> int:
        """Events in Redis that are not in the bucket yet."""
        return int(sum(v for name, v in self.gauges().items() if name.startswith("bridge_stream_events")))

    def emulation(self, method: str, page: str, body: Any = None) -> Any:
        """The bucket's own control pages, past the wire."""
        url = f"{self.setup.s3_url}/_emulation/{page}"
        return httpx.request(method, url, json=body, timeout=30, trust_env=False).json()

    def command(self, *words: str) -> tuple[int, str, str]:
        """`python -m sidecar WORDS`: its exit code, and what it printed."""
        done = run_program(self.setup, ["sidecar", *words], capture=True, **self.changed)
        return done.returncode, done.stdout, done.stderr

    def must(self, *words: str) -> str:
        code, printed, errors = self.command(*words)
        if code:
            raise Failed(f"sidecar {' '.join(words)} ended with {code}: {printed[-1500:]}{errors[-1500:]}")
        return printed

    def wait(self, what: str, holds: Callable[[], object], within_s: float, every_s: float = 0.1) -> Any:
        """What `holds` returns once it is true. Raises Failed after `within_s`."""
        deadline = time.monotonic() + within_s
        while not (found := holds()):
            self.processes.look()
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {within_s:g} s")
            time.sleep(every_s)
        return found

    def settle(self) -> None:
        """Nothing waits anywhere: no event in the spool or in Redis."""

        def quiet() -> bool:
            gauges = self.gauges()
            return gauges.get("bridge_redis_up") == 1 and self.spooled() == 0 and self.waiting() == 0

        self.wait("everything that was heard in the bucket", quiet, SETTLED_WITHIN_S, 0.25)


@contextmanager
def running(
    folder: Path, environ: Mapping[str, str], *, annotators: int, say: Say, prepared: Path | None = None
) -> Iterator[World]:
    """Everything up and well, with people who have accounts. Raises NotUp, Failed or StackError.

    `prepared`: a folder that keeps what Label Studio's first start makes, for the next run: that start takes a minute."""
    if prepared is not None and (prepared / "secrets.env").exists():
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
    hook_port, wire_port = free_ports(2)
    setup = temporary_setup(
        folder, environ, SIDECAR_URL=f"http://127.0.0.1:{hook_port}", DEMO_PROJECT="no", **OFTEN
    )
    changed = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{wire_port}", "ML_BACKEND_URL": ""}
    with ExitStack() as stack:
        processes = stack.enter_context(Processes(chaos_parts(setup, changed), setup.folder / "logs", say))
        wire = stack.enter_context(Wire(wire_port, setup.settings.s3_port))
        hooks = stack.enter_context(HookProxy(hook_port, setup.settings.sidecar_port))
        begun = time.monotonic()
        processes.start_without_waiting("label-studio")
        processes.start("redis", "s3")
        make_bucket(setup)
        processes.start(*OURS)
        processes.wait_until_well("label-studio")
        say("chaos", f"everything is up after {time.monotonic() - begun:.0f} s")
        owner = Person(setup.label_studio_url, program_environment(setup)["LABEL_STUDIO_API_KEY"])
        world = World(
            setup=setup,
            processes=processes,
            hooks=hooks,
            wire=wire,
            say=say,
            changed=changed,
            owner=owner,
        )
        owner.call("GET", "/api/current-user/whoami")
        copy_label_studio(setup.folder / "label-studio", world.pristine)
        if prepared is not None and not prepared.exists():
            copy_label_studio(world.pristine, prepared / "label-studio")
            shutil.copy(setup.folder / "secrets.env", prepared / "secrets.env")
        for number in range(annotators):
            email = f"annotator-{number}@example.com"
            world.people.append(sign_up(setup.label_studio_url, owner, email))
        yield world


def chaos_parts(setup: Setup, changed: Mapping[str, str]) -> list[Part]:
    """What `make run` starts, less the model; our programs reach the bucket over the wire."""
    parts = make_parts(setup, redis_server=find_redis_server())
    return [
        replace(part, env={**part.env, **changed}) if part.name in OURS else part
        for part in parts
        if part.name != "ml_backend"
    ]


def copy_label_studio(data: Path, to: Path) -> None:
    """Label Studio's data while it runs: the database by SQLite's own means, all else as files."""
    shutil.copytree(
        data, to, ignore=shutil.ignore_patterns("*.sqlite3", "*.sqlite3-*", "*.log"), dirs_exist_ok=True
    )
    for path in data.glob("*.sqlite3"):
        with sqlite3.connect(path) as source, sqlite3.connect(to / path.name) as target:
            source.backup(target)


def make_project(world: World, title: str) -> tuple[int, list[int], frozenset[int]]:
    """A connected project; returns its id, its tasks, and those of them whose pictures are somewhere."""
    store = store_of(world.setup)
    for number in range(IN_BUCKET):
        store.put(
            f"{world.setup.settings.storage_prefix}/wild-{number}.png",
            picture(number),
            content_type="image/png",
        )
    owner = world.owner
    project = owner.call("POST", "/api/projects", json={"title": title, "label_config": LABEL_CONFIG})["id"]
    files = {
        f"file{number}": (f"upload-{number}.png", picture(1000 + number), "image/png")
        for number in range(UPLOADED)
    }
    owner.call("POST", f"/api/projects/{project}/import", files=files)
    plain = [
        {"data": {"image": f"/static/none/{number}.png"}, "meta": {"number": number}}
        for number in range(PLAIN)
    ]
    owner.call("POST", f"/api/projects/{project}/import", json=plain)
    world.must("connect", str(project), "--baseline")
    world.must("sync", str(project))
    world.wait("the baseline", lambda: baseline_state(world, project) == "complete", 120, 0.5)
    tasks = owner.tasks(project)
    pictures = [task["id"] for task in tasks if not task["data"]["image"].startswith("/static/")]
    if len(tasks) != IN_BUCKET + UPLOADED + PLAIN or len(pictures) != IN_BUCKET + UPLOADED:
        raise Failed(f"the project has {len(tasks)} tasks, {len(pictures)} of them with pictures")
    return project, [task["id"] for task in tasks], frozenset(pictures)


def baseline_state(world: World, project: int) -> str:
    found = json.loads(world.must("status", str(project), "--json"))["projects"]
    return str(found[0]["baseline"]["state"]) if found and found[0]["baseline"] else ""
