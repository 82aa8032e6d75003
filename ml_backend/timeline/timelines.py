"""Timelines that learn, as our model asks for them: what was learned for a control, and learning from Label Studio's events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from bridge.errors import BridgeError, SenderError, SettingsError
from bridge.keys import project_id_of, project_uid
from bridge.records import parse_time
from ml_backend.config import ControlTag, parse_config
from ml_backend.detectors import Detector
from ml_backend.plan import Plan, Planned
from ml_backend.timeline.background import Background, Say
from ml_backend.timeline.classifier import Classifier
from ml_backend.timeline.classifiers import Classifiers, Place
from ml_backend.timeline.examples import Annotated, Examples, annotated
from ml_backend.timeline.features import FeatureBook, Looking
from ml_backend.timeline.label_studio import AnnotatedTasks
from ml_backend.timeline.training import Trainer, how_to_begin, labels_of
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
START = "START_TRAINING"
_ANNOTATED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")
_DELETED = "ANNOTATIONS_DELETED"
NO_KEY = (
    "LABEL_STUDIO_API_KEY is not set, and no annotation has come by itself yet: without the key the backend cannot read the "
    "project's annotations"
)


class Timelines:
    """Safe to use from several threads."""

    def __init__(
        self,
        *,
        classifiers: Classifiers,
        examples: Examples,
        trainer: Trainer,
        tasks: AnnotatedTasks,
        book: FeatureBook,
    ) -> None:
        self.book = book
        self._classifiers = classifiers
        self._examples = examples
        self._trainer = trainer
        self._tasks = tasks
        self._background = Background()

    def learned(
        self, project: str, control: ControlTag, weights: Weights, *, wait_s: float = 0.0
    ) -> tuple[Classifier | None, str]:
        """What a control has learned, or why that is nothing. Raises nothing."""
        if not _is_uid(project):
            return (
                None,
                f"{control.where} stays empty: what is learned belongs to a project, and none was named",
            )
        place = Place(uid=project, control=control.name, weights=weights.digest)
        found = self._classifiers.find(place, wait_s=wait_s)
        if found is None:
            return None, how_to_begin(control)
        if set(found.labels) != set(labels_of(control)):
            return None, (
                f"{control.where} stays empty: it was trained for the labels {', '.join(found.labels)}, and the config has "
                f"{', '.join(labels_of(control))}: press Start training (Settings > Model)"
            )
        return found, ""

    def said(self, project: str) -> list[str]:
        """What a person should know of a project's last training."""
        return self._background.said(project)

    def status(self) -> dict[str, Any]:
        return self._background.status()

    def flush(self) -> None:
        """Wait until what was begun is done; for tests."""
        self._background.flush()
        self._classifiers.flush()

    def learn(
        self,
        action: str,
        event: Mapping[str, Any],
        *,
        plan: Callable[[str, str], Plan],
        open_detector: Callable[[Weights], Detector],
    ) -> str | None:
        """The id of the training that begins, or None when the event is none to learn from.

        Raises SettingsError when nothing can be known of the project's annotations, Unavailable, SenderError."""
        if action not in (START, _DELETED, *_ANNOTATED):
            return None
        project = event.get("project")
        fields = project if isinstance(project, Mapping) else {}
        config = fields.get("label_config")
        if not isinstance(config, str) or not _learning(parse_config(config)):
            return None
        uid = _uid_of(fields)
        if action == _DELETED:
            self._examples.forget(uid, _ids(event.get("annotations")))
            return None
        if action == START:
            if not self._tasks.can_ask and not self._examples.of(uid):
                raise SettingsError(NO_KEY, hint="set it for the ML backend, and press Start training again")
        elif not self._take_in(uid, event):
            return None

        def work(say: Say) -> Mapping[str, Any]:
            self._read_all(uid, needed=action == START, say=say)
            return self._train_all(uid, plan(uid, config), open_detector, say)

        return self._background.add(uid, "all" if action == START else "told", work)

    def _read_all(self, uid: str, *, needed: bool, say: Say) -> None:
        """From Label Studio, where there is a token: when asked to, and once for every project, whose annotations from before
        no event brings. Raises BridgeError if it was `needed`."""
        if not self._tasks.can_ask or not (needed or not self._examples.is_whole(uid)):
            return
        say("reading the annotations")
        try:
            self._examples.replace(uid, _annotations(self._tasks.of(project_id_of(uid))))
        except BridgeError as error:
            if needed:
                raise
            log.warning("project %s is trained on the annotations that events brought: %s", uid, error)

    def _take_in(self, uid: str, event: Mapping[str, Any]) -> bool:
        """Whether an event brought something to learn from."""
        tasks, annotations = (_listed(event.get(name)) for name in ("task", "annotation"))
        by_id = {task.get("id"): task for task in tasks}
        told: list[Annotated] = []
        skipped: list[int] = []
        for one in annotations:
            # The event of several annotations brings their tasks beside them, that of one its only task.
            task = by_id.get(one.get("task"), tasks[0] if len(tasks) == 1 else None)
            found = annotated(task, one)
            if found is not None:
                told.append(found)
            else:
                skipped += _ids([one])
        self._examples.forget(uid, skipped)
        self._examples.put(uid, told)
        return bool(told)

    def _train_all(
        self, uid: str, plan: Plan, open_detector: Callable[[Weights], Detector], say: Say
    ) -> dict[str, Any]:
        """Every control of the project that learns. Raises BridgeError when one of them cannot."""
        items = [item for item in plan.planned if item.control.asked.learning is not None]
        if not items:
            raise SenderError("; ".join(plan.problems) or "no control of the project learns")
        annotations = self._examples.of(uid)
        done = [self._train_one(uid, item, open_detector(item.weights), annotations, say) for item in items]
        problems = [problem for one in done for problem in one.pop("problems")]
        return (done[0] if len(done) == 1 else {"controls": len(done)}) | {"problems": problems}

    def _train_one(
        self, uid: str, item: Planned, detector: Detector, annotations: Sequence[Annotated], say: Say
    ) -> dict[str, Any]:
        if detector.task != "classify" or not hasattr(detector, "features"):
            raise SenderError(
                f"{item.control.where} learns from what a model for classify sees, and {item.weights.name} is one for "
                f"{detector.task}",
                hint='name another with model_path="…"',
            )
        place = Place(uid=uid, control=item.control.name, weights=item.weights.digest)
        return self._trainer.train(place, item.control, cast(Looking, detector), annotations, say=say)


def _learning(controls: Sequence[ControlTag]) -> list[ControlTag]:
    return [one for one in controls if one.kind == "timelinelabels" and one.asked.learning and not one.skip]


def _uid_of(project: Mapping[str, Any]) -> str:
    """Raises SenderError."""
    id, created_at = project.get("id"), project.get("created_at")
    try:
        at = parse_time(created_at) if isinstance(created_at, str) else None
    except ValueError:
        at = None
    if not isinstance(id, int) or at is None:
        raise SenderError(
            "the event's project has no 'id' and 'created_at'", hint="is the sender Label Studio?"
        )
    return project_uid(id, at)


def _is_uid(project: str) -> bool:
    try:
        return project_id_of(project) > 0
    except ValueError:
        return False


def _annotations(tasks: Any) -> list[Annotated]:
    return [
        found
        for task in tasks
        for annotation in _listed(task.get("annotations"))
        if (found := annotated(task, annotation)) is not None
    ]


def _listed(found: Any) -> list[Mapping[str, Any]]:
    several = found if isinstance(found, list) else [found]
    return [one for one in several if isinstance(one, Mapping)]


def _ids(found: Any) -> list[int]:
    return [one["id"] for one in _listed(found) if isinstance(one.get("id"), int)]
