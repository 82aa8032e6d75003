"""A backend without torch: a detector that finds what it is told, images out of a dictionary."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from PIL import Image

from bridge.errors import NotFound
from bridge.settings import MlBackendSettings
from bridge.shapes import PixelBox
from ml_backend.app import create_app
from ml_backend.decode import LoadedImage, Reducible
from ml_backend.detectors import Detector, Found, FoundBox, Look
from ml_backend.models import Models
from ml_backend.problems import TaskProblem
from ml_backend.versions import VersionBook
from ml_backend.weights import Weights

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Circle"/><Label value="Box" predicted_values="square"/>
  </RectangleLabels>
</View>
"""
PROJECT = "3.1795312966"
ENVIRON = {
    "LABEL_STUDIO_URL": "http://label-studio.test",
    "AWS_ENDPOINT_URL_S3": "http://store.test",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "store-secret",
    "BUCKET": "bucket",
    "MODEL": "shapes.pt",
}


def settings(**changes: Any) -> MlBackendSettings:
    return replace(MlBackendSettings.from_env(ENVIRON), **changes)


def a_box(
    name: str = "circle", score: float = 0.9, x0: float = 10, y0: float = 20, x1: float = 30, y1: float = 60
) -> FoundBox:
    return FoundBox(name=name, score=score, box=PixelBox(x0=x0, y0=y0, x1=x1, y1=y1))


class FakeDetector:
    """Finds the same on every image, or what `per_width` says for images of a width; remembers what it was asked."""

    def __init__(
        self,
        found: Found | None = None,
        *,
        task: str = "detect",
        class_names: Sequence[str] = ("circle", "square"),
        point_names: Sequence[str] = (),
        per_width: Mapping[int, Found | Exception] | None = None,
        gate: threading.Event | None = None,
    ) -> None:
        self.task = task
        self.class_names = tuple(class_names)
        self.point_names = tuple(point_names)
        self.devices = ("cpu",)
        self._found = found or Found(boxes=(a_box(),))
        self._per_width = per_width or {}
        self._gate = gate
        self.batches: list[int] = []
        self.looks: list[Look] = []

    def reduction(self, width: int, height: int, *, look: Look) -> int:
        return 1

    def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
        if self._gate is not None:
            assert self._gate.wait(10)
        self.batches.append(len(images))
        self.looks.append(look)
        answers = [self._per_width.get(image.width, self._found) for image in images]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [answer for answer in answers if isinstance(answer, Found)]


class FakeImages:
    """Images by reference; any other reference is a 100x200 one, unless `missing`."""

    def __init__(self, known: Mapping[str, LoadedImage | Exception] | None = None) -> None:
        self._known = known or {}
        self.asked: list[str] = []

    @contextmanager
    def video(self, reference: str, *, task_id: int | None = None) -> Iterator[Path]:
        self.asked.append(reference)
        found = self._known.get(reference)
        if isinstance(found, Exception):
            raise found
        yield Path(reference)

    def load(
        self, reference: str, *, task_id: int | None = None, reducible: Reducible | None = None
    ) -> LoadedImage:
        self.asked.append(reference)
        found = self._known.get(reference, a_picture())
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class FakeInferences:
    kept: list[tuple[str, list[dict[str, Any]]]]

    def append(self, project_uid: str, records: list[dict[str, Any]]) -> None:
        self.kept.append((project_uid, records))


def a_picture(width: int = 100, height: int = 200) -> LoadedImage:
    return LoadedImage(image=Image.new("RGB", (width, height)), width=width, height=height)


def weights(digest: str = "a" * 64, name: str = "shapes") -> Weights:
    return Weights(path=Path(f"{name}.pt"), name=name, digest=digest)


def models_of(
    detector: Detector, *, model_root: Path = Path("nowhere"), default: Weights | None = None
) -> Models:
    return Models(find=lambda: default or weights(), open=lambda _path: detector, model_root=model_root)


def broken_models(message: str = "there is no weights file 'shapes.pt'") -> Models:
    def find() -> Weights:
        raise NotFound(message)

    return Models(find=find, open=lambda _path: FakeDetector(), model_root=Path("nowhere"))


def a_client(
    detector: Detector | None = None,
    *,
    images: FakeImages | None = None,
    models: Models | None = None,
    inferences: FakeInferences | None = None,
    versions: VersionBook | None = None,
    **changes: Any,
) -> FlaskClient:
    app = create_app(
        settings(**changes),
        models=models or models_of(detector or FakeDetector()),
        images=images or FakeImages(),
        inferences=inferences or FakeInferences([]),
        versions=versions or VersionBook(None),
    )
    return app.test_client()


def task(id: int = 1, image: Any = "s3://bucket/a.jpg", **data: Any) -> dict[str, Any]:
    return {"id": id, "data": {"image": image, **data}}


def predict(client: FlaskClient, tasks: Iterable[Any], config: str = CONFIG) -> list[dict[str, Any]]:
    answer = client.post("/predict", json={"project": PROJECT, "label_config": config, "tasks": list(tasks)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.get_json()["results"]
    return results


def image_bytes(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def problem(reason: Any = "missing", *, passing: bool = False) -> TaskProblem:
    return TaskProblem(reason, f"the image is {reason}", passing=passing)
