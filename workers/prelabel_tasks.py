"""Label Studio's side of pre-labelling: which tasks, what they hold, which predictions are there; writing and deleting.

Asked for columns and never for whole tasks: nested annotations and predictions cost three times as much.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from bridge.edges.label_studio import LabelStudio
from bridge.errors import NotFound
from bridge.prelabel import CHUNK_TASKS, Selection, chunks_of, condition, has_others, has_version, view_items

# What Label Studio itself sends to an ML backend of a task, but for the annotations and predictions in it.
_TASK = (
    "id,data,meta,created_at,updated_at,is_labeled,overlap,inner_id,total_annotations,cancelled_annotations,"
    "total_predictions,comment_count,file_upload,project"
)
_COLUMN_CHARS = (
    490  # it cuts a column at 500 (data_manager/serializers.py, CHAR_LIMITS), then takes quotes out
)
_WHOLE_TASKS = 50
IMPORT_TIMEOUT_S = 1800.0  # Label Studio counts the whole project again: minutes where it has 100,000 tasks


class Tasks:
    """The tasks of one project. Raises what LabelStudio raises."""

    def __init__(self, label_studio: LabelStudio, project_id: int) -> None:
        self._label_studio = label_studio
        self._project_id = project_id

    def project(self) -> dict[str, Any]:
        """Raises NotFound."""
        return self._label_studio.project(self._project_id)

    def backends(self) -> list[dict[str, Any]]:
        """The ML backends of the project, each asked by Label Studio for its version on the way."""
        return self._label_studio.ml_backends(self._project_id)

    def conditions_of_view(self, view: int) -> tuple[dict[str, Any], ...]:
        """Raises SenderError, and NotFound for a tab of another project."""
        try:
            found = self._label_studio.get(f"/api/dm/views/{view}/", project=self._project_id)
        except NotFound:
            raise NotFound(
                f"project {self._project_id} has no tab {view}",
                hint="its number stands behind `tab=` in the address of the data manager",
            ) from None
        if found.get("project") not in (None, self._project_id):
            raise NotFound(f"tab {view} belongs to another project than {self._project_id}")
        return view_items(found)

    def pages(self, selection: Selection, after: int, size: int) -> Iterator[list[int]]:
        """The ids of the selected tasks above `after`, in order, page by page."""
        if selection.ids is not None:
            left = [id for id in selection.ids if id > after]
            for ids in chunks_of(left, CHUNK_TASKS):
                yield self._ids([_in(ids), *selection.items], len(ids))
            return
        while True:
            conditions = [condition("id", "greater", "Number", after), *selection.items]
            ids_found = self._ids(conditions, size)
            if not ids_found:
                return
            yield ids_found
            after = ids_found[-1]

    def to_predict(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """These tasks with their data; those that are gone are left out."""
        found: list[dict[str, Any]] = []
        for some in chunks_of(ids, CHUNK_TASKS):
            found += self._query([_in(some)], _TASK, len(some), resolve_uri="false")
        return [{**task, "annotations": [], "predictions": []} for task in found]

    def alive(self, ids: Sequence[int]) -> set[int]:
        """Those that are still there."""
        return {id for some in chunks_of(ids, CHUNK_TASKS) for id in self._ids([_in(some)], len(some))}

    def versions(self, ids: Sequence[int]) -> dict[int, object]:
        """For those with predictions: their model versions, as `has_version` reads them."""
        found: dict[int, object] = {}
        for some in chunks_of(ids, CHUNK_TASKS):
            # Without this condition Label Studio 1.23.2 leaves the column empty.
            predicted = condition("predictions_model_versions", "empty", "List", False)
            for task in self._query([_in(some), predicted], "id,predictions_model_versions", len(some)):
                found[task["id"]] = task.get("predictions_model_versions")
        cut = [id for id, text in found.items() if isinstance(text, str) and len(text) >= _COLUMN_CHARS]
        for some in chunks_of(cut, _WHOLE_TASKS):
            whole: dict[int, list[str]] = {id: [] for id in some}
            for prediction in self.predictions_of(some):
                whole[prediction["task"]].append(str(prediction.get("model_version")))
            found |= whole
        return found

    def write(self, rows: Sequence[dict[str, Any]]) -> int:
        """Import predictions; returns how many Label Studio says it made. It drops silently what does not fit the config,
        and refuses all when one task is gone (400)."""
        answer = self._label_studio.post(
            f"/api/projects/{self._project_id}/import/predictions", list(rows), timeout_s=IMPORT_TIMEOUT_S
        )
        return int(answer["created"])

    def predictions_of(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Every prediction of these tasks, whole."""
        return [
            {**prediction, "task": task["id"]}
            for task in self._label_studio.tasks_by_id(self._project_id, list(ids))
            for prediction in task.get("predictions") or []
        ]

    def delete_prediction(self, id: int) -> bool:
        """False when it was gone already."""
        try:
            self._label_studio.delete(f"/api/predictions/{id}/")
        except NotFound:
            return False
        return True

    def _ids(self, conditions: list[dict[str, Any]], size: int) -> list[int]:
        return [task["id"] for task in self._query(conditions, "id", size)]

    def _query(
        self, conditions: list[dict[str, Any]], include: str, size: int, **params: Any
    ) -> list[dict[str, Any]]:
        """In order of id. Whoever runs Label Studio may have made its pages smaller than ours (TASK_API_PAGE_SIZE_MAX): then
        several are fetched, or tasks would be taken for gone, and their predictions for missing."""
        tasks: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        while True:
            items = [*conditions, *after]
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            try:
                found = self._label_studio.get(
                    "/api/tasks",
                    project=self._project_id,
                    page=1,
                    page_size=size - len(tasks),
                    query=json.dumps(query),
                    include=include,
                    **params,
                )
            except NotFound as error:
                if "Invalid page" in str(error):  # its answer for a first page without rows
                    return tasks
                raise
            page: list[dict[str, Any]] = found["tasks"]
            tasks += page
            if not page or len(tasks) >= size or len(page) >= (found.get("total") or 0):
                return tasks
            after = [condition("id", "greater", "Number", page[-1]["id"])]


def older_of_ours(
    predictions: Sequence[dict[str, Any]], *, ours: set[str], new: Sequence[str]
) -> list[dict[str, Any]]:
    """What may be deleted: predictions by a version of ours, of tasks that have one by a new version. Pure."""
    fresh = {one["task"] for one in predictions if one.get("model_version") in new}
    return [
        one
        for one in predictions
        if one["task"] in fresh and one.get("model_version") in ours and one.get("model_version") not in new
    ]


def split_page(
    ids: Sequence[int], versions: dict[int, object], version: str
) -> tuple[list[int], list[int], list[int]]:
    """A page as: to predict, done already, and of the latter those with other predictions beside it. Pure."""
    already = [id for id in ids if has_version(versions.get(id), version)]
    done = set(already)
    beside = [id for id in already if has_others(versions.get(id), version)]
    return [id for id in ids if id not in done], already, beside


def why_dropped(label_config: str, row: dict[str, Any]) -> str:
    """Why Label Studio does not take a prediction, by its own rules (label-studio-sdk); "" when it should."""
    from label_studio_sdk.label_interface import LabelInterface  # a second and much memory: only when needed

    try:
        said: Any = LabelInterface(label_config).validate_prediction(row, return_errors=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "; ".join(map(str, said)) if isinstance(said, list) else ""


def _in(ids: Sequence[int]) -> dict[str, Any]:
    return condition("id", "in_list", "List", list(ids))
