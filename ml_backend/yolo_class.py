"""Our YOLO model as a class of label-studio-ml, 1.0.9 or the 2.x line, to build your own on (docs/own-model.md).

The only module of ours that imports label-studio-ml, and nothing imports it but MODEL_CLASS.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from label_studio_ml.model import LabelStudioMLBase  # type: ignore[import-untyped]

from ml_backend import own_yolo

log = logging.getLogger(__name__)


class Yolo(LabelStudioMLBase):  # type: ignore[misc]
    """Answers what the ML backend answers without a MODEL_CLASS: same controls, versions, batches, engines.

    Network, pictures and versions are the backend's own, one for all; an instance holds nothing but its labeling config."""

    stands_on_our_yolo = True
    thread_safe = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except Exception as error:
            # label-studio-ml reads some configs less leniently than we do; what is wrong with one is told by predict().
            label_config = kwargs.pop("label_config", None)
            log.warning(
                "label-studio-ml cannot read the labeling config: %s: %s", type(error).__name__, error
            )
            super().__init__(*args, **kwargs)
            self.label_config = label_config

    def predict(self, tasks: Sequence[Any], context: Any = None, **options: Any) -> list[dict[str, Any]]:
        """For each task {"result": [regions], "score": …}, and `error` where it cannot be predicted."""
        return own_yolo.current().predict(tasks, context)
