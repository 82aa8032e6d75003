"""Pre-labelling over HTTP: our ML backend beside a plain label-studio-ml 1.0.9 server (benchmarks/plain_backend.py).

Same weights (a YOLO11n of random weights, 640 px: the same work, though it finds nothing), same pictures from the same
HTTP server, same requests, taken in turn on one machine. Both keep what they have fetched, as they come: ours asks the
server whether a picture is still the same. Ours is measured as it runs after its first start, with the network converted.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.process import PeakWatch
from benchmarks.row import Row, less_is_better, more_is_better
from demo.pictures import draw_picture
from ml_backend.yolo import keep_ultralytics_to_itself
from stack.ports import free_ports

ROOT = Path(__file__).parents[1]
OTHER_IS = "label-studio-ml 1.0.9, YOLO.predict per picture"
PICTURES, SIZE = 16, (1280, 960)
PHOTOS, PHOTO_SIZE = 4, (4000, 3000)  # as a camera gives them: 12 megapixels, with a sensor's noise
SINGLE_REQUESTS = 30
CLIENTS, REQUESTS_A_CLIENT = 8, 5
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="thing" predicted_values="0,1,2"/></RectangleLabels></View>'
)
_PROJECT = "1.1795312966"
_START_S, _CONVERT_S = 180.0, 600.0


def measure() -> list[Row]:
    """Images a second, milliseconds a task, MiB and seconds to start."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        keep_ultralytics_to_itself(os.environ, folder / "ultralytics")
        weights = random_weights(folder)
        pictures = stack.enter_context(picture_server())
        print("(our first start converts the network, which takes a while)")  # noqa: T201
        with ours(folder, weights, pictures) as first:
            converted_s = first.settle()
        mine = stack.enter_context(ours(folder, weights, pictures))
        mine.settle()
        theirs = stack.enter_context(plain(folder, weights, pictures))
        rows = []
        waits = mine.single_ms(), theirs.single_ms()
        a, b = (1000 * len(one) / sum(one) for one in waits)
        rows.append(more_is_better("predict, 1 a request", "images/s", a, b, OTHER_IS))
        for count, rounds in ((16, 2), (64, 1)):
            a, b = _best(mine, theirs, rounds, lambda one, count=count: one.images_a_second(count))
            rows.append(more_is_better(f"predict, {count} a request", "images/s", a, b, OTHER_IS))
            many = a
        for server in (mine, theirs):
            server.images_a_second(PHOTOS, "photo")  # fetched once, as the pictures are by now
        a, b = _best(mine, theirs, 1, lambda one: one.images_a_second(16, "photo"))
        rows.append(more_is_better("predict, 16 of 12 megapixels", "images/s", a, b, OTHER_IS))
        alone, engine = bare(folder, weights)
        rows.append(
            more_is_better(
                "64 a request, as a share", "images/s", many, alone, f"the network alone ({engine})"
            )
        )
        a, b = _best(mine, theirs, 1, lambda one: one.clients_images_a_second())
        rows.append(more_is_better(f"predict, {CLIENTS} clients", "images/s", a, b, OTHER_IS))
        for share, word in ((0.5, "median"), (0.99, "99 of 100")):
            a, b = (sorted(one)[min(len(one) - 1, int(len(one) * share))] for one in waits)
            rows.append(less_is_better(f"a single task, {word}", "ms", a, b, OTHER_IS))
        rows.append(
            less_is_better("peak memory, predicting", "MiB", mine.peak_mib(), theirs.peak_mib(), OTHER_IS)
        )
        rows.append(
            less_is_better("peak memory, first start", "MiB", first.peak_mib(), theirs.peak_mib(), OTHER_IS)
        )
        rows.append(less_is_better("start to first prediction", "s", mine.start_s, theirs.start_s, OTHER_IS))
        print(f"(engine: {mine.engine()}; found and compared {converted_s:.0f} s after the first start)")  # noqa: T201
        return rows


def random_weights(folder: Path) -> Path:
    """YOLO11n as its configuration makes it: no weights are downloaded."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = folder / "yolo11n-random.pt"
    YOLO("yolo11n.yaml").save(str(path))
    return path


def bare(folder: Path, weights: Path) -> tuple[float, str]:
    """Images a second of the network alone, in a process of its own while the servers rest, and what computed it."""
    shape = ("480", "640")  # a picture of SIZE, as the network sees it
    command = [sys.executable, "-m", "benchmarks.bare", str(weights), str(folder / "cache"), *shape]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return said["images_s"], said["engine"]


@contextmanager
def picture_server() -> Iterator[str]:
    """The address of a server that gives drawn pictures as /picture/N.jpg and /photo/N.jpg, with an ETag."""
    bodies = {}
    for number in range(PICTURES):
        image = draw_picture(60_000_000 + number, SIZE).image
        bodies[f"/picture/{number}.jpg"] = _jpeg(image)
        if number < PHOTOS:
            noise = np.random.default_rng(number).normal(0, 6, (*PHOTO_SIZE[::-1], 1))
            photo = np.asarray(image.resize(PHOTO_SIZE, Image.Resampling.BICUBIC)) + noise
            bodies[f"/photo/{number}.jpg"] = _jpeg(Image.fromarray(photo.clip(0, 255).astype(np.uint8)))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = bodies[self.path.partition("?")[0]]
            known = self.headers.get("If-None-Match") == '"1"'
            self.send_response(304 if known else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0" if known else str(len(body)))
            self.end_headers()
            if not known:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


@dataclass(kw_only=True)
class Server:
    """A running backend. `start_s`: from the command to the first prediction."""

    url: str
    pictures: str
    watch: PeakWatch
    start_s: float = 0.0

    def predict(self, client: httpx.Client, count: int, kind: str = "picture") -> None:
        different = PHOTOS if kind == "photo" else PICTURES
        tasks = [
            {"id": number, "data": {"image": f"{self.pictures}/{kind}/{number % different}.jpg"}}
            for number in range(count)
        ]
        body = {"project": _PROJECT, "label_config": CONFIG, "tasks": tasks, "params": {}}
        answer = client.post(f"{self.url}/predict", json=body)
        answer.raise_for_status()
        results = answer.json()["results"]
        if len(results) != count or not all("result" in one for one in results):
            raise RuntimeError(f"{self.url} did not predict every task")

    def first_prediction(self, began: float) -> None:
        deadline = began + _START_S
        with _client() as client:
            while True:
                try:
                    setup = {
                        "project": _PROJECT,
                        "schema": CONFIG,
                        "hostname": self.pictures,
                        "access_token": "",
                    }
                    answer = client.post(f"{self.url}/setup", json=setup).raise_for_status()
                    if warnings := answer.json().get("warnings"):
                        raise RuntimeError(f"{self.url} would do other work than the other: {warnings}")
                    self.predict(client, 1)
                    break
                except httpx.HTTPError:
                    if time.perf_counter() > deadline:
                        raise
                    time.sleep(0.1)
            self.start_s = time.perf_counter() - began
            self.predict(client, PICTURES)

    def engine(self) -> str:
        return str(self._engine().get("name", "torch"))

    def settle(self) -> float:
        """Waits until the engine is chosen, warms it up, and gives the seconds that took."""
        began = time.perf_counter()
        while self._engine().get("state") == "converting":
            if time.perf_counter() - began > _CONVERT_S:
                raise RuntimeError(f"no engine was chosen within {_CONVERT_S:g} s")
            time.sleep(0.2)
        with _client() as client:
            self.predict(client, PICTURES)
        return time.perf_counter() - began

    def _engine(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=10).json()["model"].get("engine", {})
        return found

    def images_a_second(self, count: int, kind: str = "picture") -> float:
        with _client() as client:
            began = time.perf_counter()
            self.predict(client, count, kind)
            return count / (time.perf_counter() - began)

    def clients_images_a_second(self) -> float:
        def work(client: httpx.Client) -> None:
            for _ in range(REQUESTS_A_CLIENT):
                self.predict(client, 1)

        # Made before: a client takes longer to make than a picture to predict, on the very processor that is measured.
        with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
            clients = [stack.enter_context(_client()) for _ in range(CLIENTS)]
            began = time.perf_counter()
            list(pool.map(work, clients))
            return CLIENTS * REQUESTS_A_CLIENT / (time.perf_counter() - began)

    def single_ms(self) -> list[float]:
        times = []
        with _client() as client:
            for _ in range(SINGLE_REQUESTS):
                began = time.perf_counter()
                self.predict(client, 1)
                times.append((time.perf_counter() - began) * 1000)
        return times

    def peak_mib(self) -> float:
        return self.watch.peak_mib()


def _best(mine: Server, theirs: Server, rounds: int, ask: Callable[[Server], float]) -> tuple[float, float]:
    """The best of some rounds each, taken in turn."""
    found = [(ask(mine), ask(theirs)) for _ in range(rounds)]
    return max(a for a, _ in found), max(b for _, b in found)


def _client() -> httpx.Client:
    return httpx.Client(timeout=300, trust_env=False)


@contextmanager
def ours(folder: Path, weights: Path, pictures: str) -> Iterator[Server]:
    """`python -m ml_backend`; its cache lasts from one start to the next. There is no bucket to fetch from."""
    environment = {
        "MODEL": str(weights),
        "LABEL_STUDIO_URL": pictures,
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench-secret",
        "BUCKET": "bench",
        "CACHE_DIR": str(folder / "cache"),
        "LOG_LEVEL": "ERROR",
    }
    with _server([sys.executable, "-m", "ml_backend"], environment, pictures) as server:
        yield server


@contextmanager
def plain(folder: Path, weights: Path, pictures: str) -> Iterator[Server]:
    """One process with eight threads: what label-studio-ml's own examples start."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--threads", "8", "--timeout", "0", "--log-level", "error"]
    command += ["benchmarks.plain_backend:create_app()"]
    environment = {
        "PLAIN_WEIGHTS": str(weights),
        "PLAIN_FOLDER": str(folder / "plain"),
        "XDG_CACHE_HOME": str(folder / "plain-cache"),
        "LABEL_STUDIO_URL": pictures,
        "HOME": str(folder),
    }
    with _server(command, environment, pictures, port=port) as server:
        yield server


@contextmanager
def _server(
    command: list[str], environment: Mapping[str, str], pictures: str, *, port: int | None = None
) -> Iterator[Server]:
    port = port or free_ports(1)[0]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment, "PORT": str(port)}, stdout=subprocess.DEVNULL
    )
    server = Server(url=f"http://127.0.0.1:{port}", pictures=pictures, watch=PeakWatch(process.pid))
    try:
        server.first_prediction(began)
        yield server
    finally:
        server.watch.stop()
        process.terminate()
        process.wait(30)
