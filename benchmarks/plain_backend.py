"""What a user writes today: a label-studio-ml backend that asks ultralytics for one picture after another.

`gunicorn benchmarks.plain_backend:create_app()` with PLAIN_WEIGHTS. benchmarks/predict.py measures ours against it.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase


class PlainYolo(LabelStudioMLBase):
    """As in label-studio-ml's examples: the model is loaded once, when Label Studio sets the project up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        from ultralytics import YOLO

        self.from_name, tag = next(iter(self.parsed_label_config.items()))
        self.to_name = tag["to_name"][0]
        self.value = tag["inputs"][0]["value"]
        self.yolo = YOLO(os.environ["PLAIN_WEIGHTS"])

    def predict(self, tasks: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
        found = []
        for task in tasks:
            path = self.get_local_path(task["data"][self.value])
            [seen] = self.yolo.predict(path, conf=0.25, verbose=False)
            height, width = seen.orig_shape
            regions = [
                {
                    "from_name": self.from_name,
                    "to_name": self.to_name,
                    "type": "rectanglelabels",
                    "score": float(score),
                    "value": {
                        "x": 100 * x0 / width,
                        "y": 100 * y0 / height,
                        "width": 100 * (x1 - x0) / width,
                        "height": 100 * (y1 - y0) / height,
                        "rectanglelabels": [seen.names[int(kind)]],
                    },
                }
                for (x0, y0, x1, y1), score, kind in zip(
                    seen.boxes.xyxy.tolist(), seen.boxes.conf.tolist(), seen.boxes.cls.tolist(), strict=True
                )
            ]
            found.append({"result": regions, "score": 0.0})
        return found


def create_app() -> Flask:
    app: Flask = init_app(PlainYolo, model_dir=os.environ["PLAIN_FOLDER"])
    return app
