"""The demo project of a first run, through public interfaces only: Label Studio's API, the bucket, `sidecar connect`.

Also what a later run must put back: moto's bucket lives in memory and is empty again after each stop.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import httpx

from bridge.events import SECRET_HEADER
from demo.pictures import draw_picture, shipped_photos
from stack.errors import StackError
from stack.machine import run_program, store_of
from stack.settings import Setup, program_environment
from stack.terminal import Say

TITLE = "Demo: shapes"
LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="circle" background="#e6194b"/>
    <Label value="square" background="#3cb44b"/>
    <Label value="triangle" background="#4363d8"/>
  </RectangleLabels>
</View>
"""
IN_BUCKET = range(1, 13)
"""Seeds of the pictures that are put into the bucket."""
UPLOADED = range(101, 105)
"""Seeds of the pictures that are uploaded into Label Studio itself."""
REQUEST_TIMEOUT_S = 60.0


def seed(setup: Setup, say: Say) -> int | None:
    """Create the demo project on the first run, put back later what the bucket lost; returns the project's id, if any.

    Only for a Label Studio that the stack started: a real one is never given a demo project. A first run that died on
    the way is finished by the next one; a demo project that somebody deleted afterwards stays deleted.
    """
    done = setup.folder / "demo-project-made"
    with _client(setup) as client:
        _check_token(client, setup)
        projects = _json(client.get("/api/projects", params={"page_size": 1000}))["results"]
        demo = next((project["id"] for project in projects if project["title"] == TITLE), None)
        if setup.settings.demo_project and not done.exists():
            say(
                "stack",
                f"first run: {TITLE!r} gets {len(IN_BUCKET)} pictures in the bucket, {len(UPLOADED)} uploaded",
            )
            _fill_bucket(setup)
            demo = _create(client, demo)
            _connect(setup, demo, say)
            _sync(client, demo, say)
            done.touch()
        elif setup.settings.s3_url is None:
            connected = [project["id"] for project in projects if _is_connected(client, setup, project["id"])]
            say(
                "stack",
                f"the bucket lives in memory and is empty again: the baseline of {_count(connected)} runs again",
            )
            if demo is not None:
                _fill_bucket(setup)
            for project in connected:
                # Repairs what changed settings have moved. The scheduler sees that the bucket lost the project's log,
                # and starts the baseline itself.
                _connect(setup, project, say)
    return demo


def _count(projects: list[int]) -> str:
    return f"{len(projects)} connected project{'' if len(projects) == 1 else 's'}"


def picture_file(seed: int) -> bytes:
    """The JPEG file of one demo picture; the same seed gives the same file."""
    file = io.BytesIO()
    draw_picture(seed, photos=shipped_photos()).image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _create(client: httpx.Client, there: int | None) -> int:
    """The project and its uploaded pictures, as far as they are not `there`; returns its id."""
    body = {
        "title": TITLE,
        "description": "Made by the first run: circles, squares and triangles. Delete it whenever you like.",
        "label_config": LABEL_CONFIG,
        "show_collab_predictions": True,
    }
    project = there or int(_json(client.post("/api/projects", json=body))["id"])
    if _json(client.get(f"/api/projects/{project}"))["task_number"] == 0:
        # A field name for each: of several files under one name Label Studio takes the last only.
        files = {
            f"file{number}": (f"upload-{number}.jpg", picture_file(number), "image/jpeg")
            for number in UPLOADED
        }
        _json(client.post(f"/api/projects/{project}/import", files=files))
    return project


def _fill_bucket(setup: Setup) -> None:
    store = store_of(setup)
    folder = f"{setup.settings.storage_prefix}/" if setup.settings.storage_prefix else ""
    for number in IN_BUCKET:
        store.put(f"{folder}shapes-{number:03}.jpg", picture_file(number), content_type="image/jpeg")


def _connect(setup: Setup, project: int, say: Say) -> None:
    done = run_program(setup, ["sidecar", "connect", str(project)])
    for line in (done.stdout + done.stderr).splitlines():
        say("stack", f"connect {project}: {line}")
    if done.returncode:
        raise StackError(f"connecting project {project} failed", hint="what it said is above")


def _sync(client: httpx.Client, project: int, say: Say) -> None:
    """Make tasks of the bucket's pictures. Known ones are not made twice."""
    for storage in _json(client.get("/api/storages/s3", params={"project": project})):
        synced = _json(client.post(f"/api/storages/s3/{storage['id']}/sync"))
        say(
            "stack",
            f"project {project}: tasks synced from the bucket ({synced.get('last_sync_count', '?')} new)",
        )


def _is_connected(client: httpx.Client, setup: Setup, project: int) -> bool:
    """Whether it has our webhook: known by its secret, since the sidecar's port may have changed between two runs."""
    secret = program_environment(setup)["WEBHOOK_SECRET"]
    hooks: Iterable[dict[str, Any]] = _json(client.get("/api/webhooks/", params={"project": project}))
    return any((hook.get("headers") or {}).get(SECRET_HEADER) == secret for hook in hooks)


def _client(setup: Setup) -> httpx.Client:
    token = program_environment(setup)["LABEL_STUDIO_API_KEY"]
    return httpx.Client(
        base_url=setup.label_studio_url,
        headers={"Authorization": f"Token {token}"},
        timeout=REQUEST_TIMEOUT_S,
        trust_env=False,
        follow_redirects=True,
    )


def _check_token(client: httpx.Client, setup: Setup) -> None:
    if client.get("/api/current-user/whoami").status_code == 401:
        raise StackError(
            f"Label Studio does not know the token in {setup.folder / 'secrets.env'}",
            hint=f"its data in {setup.folder / 'label-studio'} was made with other secrets: bring back that file, "
            "or remove the whole folder to start afresh",
        )


def _json(response: httpx.Response) -> Any:
    if response.status_code >= 400:
        raise StackError(
            f"Label Studio answered {response.status_code} to {response.request.method} {response.request.url.path}: "
            f"{response.text[:300]}"
        )
    return response.json()
