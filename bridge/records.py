"""One version of one thing: the line format of the log, and what counts as its content.

A record's `data` never holds a secret. What people make (task, annotation, prediction, draft) is kept whole, less
the copies of other things that Label Studio nests into it; what may carry credentials (project, storage, webhook,
ml_backend, user) is kept by allow-list. `content` is a narrower allow-list of its own: the fields that mean the same
whether they come by webhook, by `/api/tasks` or by an export, and that do not change by themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

KINDS = (
    "project",
    "user",
    "task",
    "annotation",
    "prediction",
    "draft",
    "storage",
    "webhook",
    "ml_backend",
    "view",
    "inference",
    "media",
    "restore",
)

Op = Literal["put", "delete"]
Source = Literal["webhook", "baseline", "reconcile", "restore", "ml_backend", "media"]

# Written only by a version of us that changes what a line means: then older ones keep the line and do not fold it.
FORMAT = 1
_FIELDS = frozenset(
    {
        *("kind", "op", "id", "created_at", "version", "event_id", "received_at", "observed_at"),
        *("source", "event", "data"),
    }
)

PROJECT_FIELDS = (
    "title",
    "description",
    "label_config",
    "expert_instruction",
    "show_instruction",
    "show_skip_button",
    "enable_empty_annotation",
    "show_annotation_history",
    "color",
    "maximum_annotations",
    "is_published",
    "is_draft",
    "model_version",
    "min_annotations_to_start_training",
    "show_collab_predictions",
    "sampling",
    "show_ground_truth_first",
    "show_overlap_first",
    "overlap_cohort_percentage",
    "annotator_evaluation_enabled",
    "evaluate_predictions_automatically",
    "skip_queue",
    "reveal_preannotations_interactively",
    "created_by",
)

# What makes two sightings of a thing the same content (facts: payloads/, /api/tasks?fields=all, export JSON).
CONTENT_FIELDS: dict[str, tuple[str, ...]] = {
    "project": PROJECT_FIELDS,
    "user": ("email", "username", "first_name", "last_name"),
    "task": (
        "data",
        "meta",
        "inner_id",
    ),  # not overlap: exports leave it out, and it follows the project's setting
    "annotation": (
        "result",
        "was_cancelled",
        "ground_truth",
        "lead_time",
        "completed_by",
        "task",
        "parent_prediction",
        "parent_annotation",
        "import_id",
    ),
    "prediction": ("result", "score", "model_version", "task"),
    "draft": ("result", "lead_time", "user", "task", "annotation", "was_postponed"),
    "storage": (
        "type",
        "direction",
        "title",
        "description",
        "bucket",
        "prefix",
        "regex_filter",
        "use_blob_urls",
        "presign",
        "presign_ttl",
        "recursive_scan",
        "region_name",
        "s3_endpoint",
        "path",
        "can_delete_objects",
    ),
    "webhook": ("url", "send_payload", "send_for_all_actions", "is_active", "actions"),
    "ml_backend": ("title", "description", "url", "auth_method", "is_interactive", "auto_update"),
    "view": ("data", "order", "user"),
}

# Kinds that can carry credentials: nothing but these fields is ever kept.
_ALLOW_LISTED: dict[str, tuple[str, ...]] = {
    "project": (*PROJECT_FIELDS, "id", "created_at", "updated_at", "organization"),
    "user": (*CONTENT_FIELDS["user"], "id", "date_joined"),
    "storage": (*CONTENT_FIELDS["storage"], "id", "project", "created_at"),
    "webhook": (*CONTENT_FIELDS["webhook"], "id", "project", "created_at", "updated_at"),
    "ml_backend": (
        *CONTENT_FIELDS["ml_backend"],
        "id",
        "project",
        "created_at",
        "updated_at",
        "model_version",
    ),
}

_ADDRESSES = ("url", "s3_endpoint")

# Nested copies, counters and words for the screen: dropped from what people make.
_DROPPED: dict[str, frozenset[str]] = {
    "task": frozenset(
        {
            *(
                "annotations",
                "predictions",
                "drafts",
                "annotators",
                "annotations_results",
                "predictions_results",
            ),
            *(
                "predictions_score",
                "annotations_ids",
                "predictions_model_versions",
                "avg_lead_time",
                "draft_exists",
            ),
            *("comment_count", "comment_authors", "unresolved_comment_count", "last_comment_updated_at"),
            *(
                "is_labeled",
                "total_annotations",
                "cancelled_annotations",
                "total_predictions",
                "completed_at",
            ),
            "precomputed_agreement",
        }
    ),
    "annotation": frozenset({"created_username", "created_ago"}),
    "prediction": frozenset({"created_ago"}),
    "draft": frozenset({"created_username", "created_ago"}),
}


def parse_time(value: str | None) -> datetime | None:
    """An ISO 8601 time as Label Studio writes it, as an aware UTC datetime; None stays None.

    Raises ValueError for text that is no time, has no zone, or lies outside the years 1 to 9999."""
    if value is None:
        return None
    parsed = datetime.fromisoformat(value)
    if parsed.tzinfo is None:
        raise ValueError(f"the time {value!r} has no zone")
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {value!r} is out of range") from None


def format_time(value: datetime) -> str:
    """Always six digits and Z, so that text order is time order."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, and 1.0 written as 1.

    Label Studio sends a number as the annotator's browser wrote it in the webhook, and as the database keeps it later.
    A browser can also cut a text through an emoji: half of one is no UTF-8, but has a hash all the same.
    """
    return canonical_plain(_plain(value))


def canonical_plain(value: Any) -> bytes:
    """The same of a value from JSON that has no float that is a whole number."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value  # most are: asking them first whether they are a Mapping costs most of the time
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def clean(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What of a payload or API answer is kept in the record. Raises nothing."""
    if kind in _ALLOW_LISTED:
        kept = {name: data[name] for name in _ALLOW_LISTED[kind] if name in data}
    else:
        dropped = _DROPPED.get(kind, frozenset())
        kept = {name: value for name, value in data.items() if name not in dropped}
    for name in _ADDRESSES:
        if isinstance(kept.get(name), str) and kind in _ALLOW_LISTED:
            kept[name] = _without_credentials(kept[name])
    # People are sometimes given as an object (GET /api/tasks/ID, exports), sometimes as an id.
    for name in ("completed_by", "created_by", "updated_by"):
        if isinstance(kept.get(name), Mapping):
            kept[name] = kept[name].get("id")
    return kept


def _without_credentials(address: str) -> str:
    """An address less `user:password@` and less its query, where tokens are put."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def content(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `data` that decides whether two sightings are the same; absent and null are one."""
    fields = CONTENT_FIELDS.get(kind)
    if fields is None:
        return dict(data)
    found = {name: data[name] for name in fields if data.get(name) is not None}
    if found.get("meta") == {}:
        del found["meta"]
    return found


def content_hash(kind: str, data: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the canonical content."""
    return hashlib.sha256(canonical(content(kind, data))).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One version of one thing, or its end. All times are aware UTC.

    `created_at` names the incarnation; a webhook's delete has none, nor has a view. `version` is Label Studio's
    `updated_at`, or our time of reading where Label Studio has none. `observed_at` is our clock before the request
    that read it (baseline and reconcile only). `data` is empty for a delete. `extra` is what a newer version of us wrote
    beside these fields: kept and written again; of a record that is not `understood` it holds all of the line.
    """

    kind: str
    op: Op
    id: str
    created_at: datetime | None
    version: datetime | None
    event_id: str
    received_at: datetime
    observed_at: datetime | None = None
    source: Source
    event: str
    data: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def understood(self) -> bool:
        """False for a record from a newer version of us whose kind, op or format we do not know: it is kept, not folded."""
        return self.kind in KINDS and self.op in ("put", "delete") and _format(self.extra) == FORMAT

    @cached_property
    def hash(self) -> str:
        """The content hash of `data`."""
        return content_hash(self.kind, self.data)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two records that say the same of the same version: (created_at, version, content)."""
        return (
            "|".join(("" if t is None else format_time(t)) for t in (self.created_at, self.version))
            + f"|{self.op}|{self.hash}"
        )

    @property
    def seen_at(self) -> datetime:
        """When this sighting was made, at the latest: before the request for a reading, at the door for a webhook."""
        return self.observed_at or self.received_at

    def to_json(self) -> str:
        """One line, without the newline; `from_json` reads it back."""
        return _line(self.extra if not self.understood else self._fields() | self.extra)

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "kind": self.kind,
            "op": self.op,
            "id": self.id,
            "created_at": None if self.created_at is None else format_time(self.created_at),
            "version": None if self.version is None else format_time(self.version),
            "event_id": self.event_id,
            "received_at": format_time(self.received_at),
        }
        if self.observed_at is not None:
            fields["observed_at"] = format_time(self.observed_at)
        return fields | {"source": self.source, "event": self.event, "data": self.data}

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """Read one line of the log; raises ValueError when it is not a record.

        What a newer version of us wrote is a record too, as long as it has kind, id and received_at (see `understood`)."""
        try:
            fields = json.loads(line)
        except RecursionError as error:
            raise ValueError(f"not a record: {error!r}") from error
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: Any) -> Record:
        """As `from_json`, of a line that is parsed already."""
        try:
            if _is_newer(fields):
                return cls._not_understood(fields)
            received_at = parse_time(fields["received_at"])
            record = cls(
                kind=fields["kind"],
                op=fields["op"],
                id=fields["id"],
                created_at=parse_time(fields["created_at"]),
                version=parse_time(fields["version"]),
                event_id=fields["event_id"],
                received_at=received_at,  # type: ignore[arg-type]
                observed_at=parse_time(fields.get("observed_at")),
                source=fields["source"],
                event=fields["event"],
                data=fields["data"],
                extra={name: value for name, value in fields.items() if name not in _FIELDS},
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a record: {error!r}") from error
        valid = (
            isinstance(record.source, str)
            and isinstance(record.id, str)
            and isinstance(record.data, dict)
            and received_at is not None
        )
        if not valid:
            raise ValueError(
                f"not a record: kind {record.kind!r}, id {record.id!r}, source {record.source!r}"
            )
        return record

    @classmethod
    def _not_understood(cls, fields: dict[str, Any]) -> Record:
        received_at = parse_time(fields["received_at"])
        if received_at is None or not isinstance(fields["id"], str):
            raise ValueError("not a record: it has no id or no received_at")
        return cls(
            kind=fields["kind"],
            op=fields["op"],
            id=fields["id"],
            created_at=None,
            version=None,
            event_id=str(fields.get("event_id", "")),
            received_at=received_at,
            source=fields.get("source", ""),
            event=str(fields.get("event", "")),
            data=fields["data"] if isinstance(fields.get("data"), dict) else {},
            extra=fields,
        )


def _format(fields: Mapping[str, Any]) -> Any:
    return fields.get("format", FORMAT)


def _is_newer(fields: dict[str, Any]) -> bool:
    """Whether a line says of itself that it is a record, though none that this version knows. Raises KeyError,
    TypeError or AttributeError when it is no object or lacks what every record has."""
    kind, op, format = fields["kind"], fields["op"], _format(fields)
    if not (_is_word(kind) and _is_word(op) and isinstance(format, int)):
        raise TypeError("kind, op or format is not what a record has")
    return kind not in KINDS or op not in ("put", "delete") or format != FORMAT


def _is_word(value: Any) -> bool:
    """What a kind or an op of any version looks like; anything else is damage."""
    return isinstance(value, str) and 0 < len(value) <= 40 and value.isidentifier()


def _line(fields: Mapping[str, Any]) -> str:
    line = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        # Half an emoji, cut off by a browser: only its escape can be written.
        return json.dumps(fields, separators=(",", ":"))
    return line


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What the door adds to whatever it heard: given once, kept by stream, spool and log alike."""

    event_id: str
    received_at: datetime
    source: Source
    event: str
    observed_at: datetime | None = None


def put(kind: str, data: Mapping[str, Any], stamp: Stamp, **extra: Any) -> Record:
    """A record of a thing as Label Studio showed it. `extra` is added to the data (for example task_created_at).

    Raises ValueError when the thing has no id, or a time that is none."""
    if not isinstance(data.get("id"), int | str) or isinstance(data["id"], bool):
        raise ValueError(f"a {kind} without an id")
    created_at = parse_time(data.get("created_at") or data.get("date_joined"))
    version = parse_time(data.get("updated_at")) or stamp.observed_at or stamp.received_at
    return Record(
        kind=kind,
        op="put",
        id=str(data["id"]),
        created_at=created_at,
        version=version,
        event_id=stamp.event_id,
        received_at=stamp.received_at,
        observed_at=stamp.observed_at,
        source=stamp.source,
        event=stamp.event,
        data=clean(kind, data) | {name: value for name, value in extra.items() if value is not None},
    )


def delete(kind: str, id: str, stamp: Stamp, *, created_at: datetime | None = None) -> Record:
    """The end of a thing: of every incarnation so far (a webhook's delete), or of the one named (a reconcile's)."""
    return Record(
        kind=kind,
        op="delete",
        id=id,
        created_at=created_at,
        version=None,
        event_id=stamp.event_id,
        received_at=stamp.received_at,
        observed_at=stamp.observed_at,
        source=stamp.source,
        event=stamp.event,
        data={},
    )


def superseding(record: Record, state_version: datetime, one_tick: Any) -> Record:
    """The same reading, made newer than what the state holds: for a confirmed re-read that differs (design, State)."""
    newest = max(record.version or record.seen_at, state_version + one_tick)
    return replace(record, version=newest)
