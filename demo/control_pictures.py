"""`python -m demo.control_pictures`: docs/pictures/controls anew, from Label Studio's own page in headless Chromium.

Each control gets a project with one drawn picture or video, our predictions, and a screenshot. It needs playwright
(`pip install playwright`) and a Chromium. Settings: LABEL_STUDIO_URL, with LABEL_STUDIO_API_KEY, LABEL_STUDIO_USERNAME
and LABEL_STUDIO_PASSWORD, for one that runs; otherwise one is started. CHROMIUM: its program, if not playwright's own.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from PIL import Image

from demo.control_cases import CASES, Case
from demo.looking import LabelStudioUser
from demo.steps import wait_for
from stack.machine import ROOT, started, temporary_setup
from stack.settings import Setup

PLACE = ROOT / "docs" / "pictures" / "controls"
_PARTS = {"redis", "s3", "label-studio", "ml_backend"}
_WIDTH = 640  # of a picture at most, px
_MARGIN = 8
_LARGEST = 80_000  # bytes as PNG; beyond that it is a JPEG
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
_SHOWN = ".lsf-labels, .lsf-image, .lsf-choices, .lsf-taxonomy, .htx-taxonomy, .lsf-video-segmentation"
_TAB = ".lsf-annotations-carousel :text('demo-')"
_RECTANGLES = """shown => [...document.querySelector('.lsf-main-view').querySelectorAll(shown)]
    .map(one => [one.className.toString(), one.getBoundingClientRect()])
    .filter(([, at]) => at.width && at.height)
    .map(([name, at]) => ({name, left: at.left, top: at.top, right: at.right, bottom: at.bottom}))"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(CASES)))
@click.option(
    "--folder", default=PLACE, show_default="docs/pictures/controls", type=click.Path(path_type=Path)
)
def main(names: tuple[str, ...], folder: Path) -> None:
    """Take the pictures of the controls NAMES (all of them)."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as temporary:
        setup = _setup(Path(temporary), os.environ)
        who = {name: os.environ.get(name) or setup.secrets[name] for name in _WHO}
        click.echo("starting; the first time Label Studio takes a minute or more")
        with started(setup, only=_PARTS):
            user = LabelStudioUser(setup.label_studio_url, who["LABEL_STUDIO_API_KEY"])
            made: dict[str, tuple[int, int]] = {}
            try:
                for name in names or sorted(CASES):
                    made[name] = _predicted(setup, user, name, CASES[name])
                _shoot(setup.label_studio_url, who, made, folder, os.environ.get("CHROMIUM"))
            finally:
                for project, _ in made.values():
                    user.call("DELETE", f"/api/projects/{project}/")


_WHO = ("LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_API_KEY")


def _setup(folder: Path, environ: Mapping[str, str]) -> Setup:
    """The models of the repository on torch: what a picture shows shall not depend on the machine."""
    running = {name: environ[name] for name in ("LABEL_STUDIO_URL", *_WHO[2:]) if environ.get(name)}
    return temporary_setup(
        folder,
        environ,
        ENGINE="torch",
        MODEL=str(ROOT / "models" / "demo-shapes.pt"),
        MODEL_ROOT=str(ROOT / "models"),
        **running,
    )


def _predicted(setup: Setup, user: LabelStudioUser, name: str, case: Case) -> tuple[int, int]:
    """A project with one task that has our prediction: the ids of both."""
    body = {"title": f"pictures: {name}", "label_config": case.config, "show_collab_predictions": True}
    project = user.call("POST", "/api/projects", json=body)["id"]
    user.call("POST", f"/api/projects/{project}/import", files={"file": case.make()})
    backend = {
        **{"project": project, "url": setup.ml_backend_url, "title": "ours", "auth_method": "BASIC_AUTH"},
        **{"basic_auth_user": setup.secrets["BASIC_AUTH_USER"]},
        **{"basic_auth_pass": setup.secrets["BASIC_AUTH_PASS"]},
    }
    user.call("POST", "/api/ml", json=backend)

    def task() -> Any:
        """Videos of a project need a model that is loaded by the first request."""
        user.call(
            "POST",
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": True, "excluded": []}, "project": str(project)},
        )
        [found] = user.tasks(project)
        return found if any(one["result"] for one in found["predictions"]) else None

    found = wait_for(f"a prediction for {name}", task, within_s=300, every_s=3)
    return project, found["id"]


def _shoot(
    url: str,
    who: Mapping[str, str],
    made: Mapping[str, tuple[int, int]],
    folder: Path,
    chromium: str | None,
) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, headless=True, args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1270, "height": 1000})
        page.set_default_timeout(120_000)
        page.route(lambda to: not to.startswith((url, "blob:", "data:")), lambda route: route.abort())
        page.goto(f"{url}/user/login/", wait_until="domcontentloaded")
        page.fill("input[name=email]", who["LABEL_STUDIO_USERNAME"])
        page.fill("input[name=password]", who["LABEL_STUDIO_PASSWORD"])
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda at: "/login" not in at, wait_until="commit")
        for name, (project, task) in made.items():
            case = CASES[name]
            shown = f"{_SHOWN}, .lsf-object" if case.is_video else _SHOWN
            page.evaluate(
                "show => localStorage.setItem('labelStudio:settings', JSON.stringify({showLabels: show}))",
                case.show_labels,
            )
            page.set_viewport_size({"width": 1350 if case.is_video else 1270, "height": 1000})
            _open(page, f"{url}/projects/{project}/data?task={task}")
            page.wait_for_timeout(5000)  # pictures and videos are drawn after the page says that it is there
            page.mouse.move(1100, 300)
            page.wait_for_timeout(500)
            whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            path = _save(_cut(whole, page.evaluate(_RECTANGLES, shown)), folder, name)
            click.echo(f"{path.name}: {path.stat().st_size} bytes")
        browser.close()


def _open(page: Any, address: str) -> None:
    """Show the prediction: its tab bears the model's version, which begins with its file's name. A new task is now and
    then shown without its predictions: it is opened again."""
    from playwright.sync_api import TimeoutError

    for left in (3, 2, 1, 0):
        page.goto(address, wait_until="domcontentloaded")
        try:
            page.wait_for_selector(_TAB, timeout=30_000)
            page.wait_for_timeout(3000)  # the page makes its tabs twice
            page.locator(_TAB).first.click(timeout=30_000)
            return
        except TimeoutError:
            if not left:
                raise


def _cut(whole: Image.Image, shown: list[dict[str, Any]]) -> Image.Image:
    """The part with the control and what it is on."""
    image = [one for one in shown if one["name"].startswith("lsf-image")]
    right = image[0]["right"] if image else max(one["right"] for one in shown)
    cut = whole.crop(
        (
            int(min(one["left"] for one in shown)) - _MARGIN,
            int(min(one["top"] for one in shown)) - _MARGIN,
            int(right) + _MARGIN,
            min(int(max(one["bottom"] for one in shown)) + _MARGIN, 944),  # below is the page's own bar
        )
    )
    if cut.width > _WIDTH:
        cut = cut.resize((_WIDTH, round(cut.height * _WIDTH / cut.width)), Image.Resampling.LANCZOS)
    return cut


def _save(picture: Image.Image, folder: Path, name: str) -> Path:
    """As small as it gets without harm."""
    for old in folder.glob(f"{name}.*"):
        old.unlink()
    path = folder / f"{name}.png"
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > _LARGEST:
        path.unlink()
        path = folder / f"{name}.jpg"
        picture.save(path, quality=82, optimize=True)
    return path


if __name__ == "__main__":
    main()
