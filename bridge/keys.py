"""The bucket layout. The only place a key is written or read.

{prefix}/projects/{project uid}/
    log/{yyyy}/{mm}/{dd}/{position:013d}-{sha}.jsonl    immutable records; position = milliseconds since 1970
    media/{sha256}{ext}                                 files uploaded into Label Studio itself
    snapshots/{position:013d}/{name}                    tables of the state, folded.parquet; manifest.json last
    current/annotations/{annotation_id}.json            the newest version of each annotation
    current/deleted/annotations/{annotation_id}.json    the last version of each annotation that was deleted
    exports/{export_id}/{file}                          one export; its manifest.json is put last and makes it whole
    models/{version}/…
    restores/{restore_id}/order.json                    a restore of this project into another: what was asked for
    restores/{restore_id}/project.json                  … and the uid of the project that it made
    restore/report.json                                 how this project was restored from another's record
    restore/ids.jsonl                                   … and which recorded id became which
    prelabels/{prelabel_id}/report.jsonl                what became of a pre-labelling job; a line a task that failed
    metrics/annotations-{sha}.jsonl                     one line an annotation: what became of its prediction
    metrics/summary.json                                a summary for each model version; names the file above; put last
{prefix}/models/engines/{sha256 of the weights}/{engine}/{name}
                                                        weights converted for a kind of machine; manifest.json last
{prefix}/models/timelines/{project uid}/{16 hex of the control's name}-{16 hex of the weights}/{name}
                                                        what a timeline learned: {sha256}.npz, and manifest.json last

{prefix}/models/
    current.json                                        which published weights serve, for whoever reads this pointer
    {version}/{file}                                    weights; manifest.json is put last and makes them whole
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_UID = re.compile(r"[0-9]{1,19}\.[0-9]{1,12}")
_LOG = re.compile(r"log/(\d{4})/(\d{2})/(\d{2})/(\d{13})-([0-9a-f]{16})\.jsonl")
_CURRENT = re.compile(r"current/(deleted/)?annotations/(\d+)\.json")
_METRICS = re.compile(r"metrics/annotations-([0-9a-f]{16})\.jsonl")
_EXPORT = re.compile(r"exports/([0-9a-z_-]{1,120})/([^/]+)")
_SNAPSHOT = re.compile(r"snapshots/(\d{13})/([^/]+)")
_RESTORE = re.compile(r"restores/([0-9a-f]{16})/order\.json")
_ENGINE = re.compile(r"models/engines/([0-9a-f]{64})/([A-Za-z0-9._-]{1,120})/([^/]+)")
_MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,39}\.[0-9a-f]{8})/([^/]+)")
_MEDIA = re.compile(r"media/([0-9a-f]{64})(\.[a-z0-9]{1,10})?")


def project_uid(project_id: int, created_at: datetime) -> str:
    """Label Studio's own uid of a project, `{id}.{created_at in epoch seconds}` (facts/ml-protocol.md, 1.1)."""
    return f"{project_id}.{int(created_at.timestamp())}"


def project_id_of(uid: str) -> int:
    """The project's id within its Label Studio; raises ValueError when `uid` is no project uid."""
    if not _UID.fullmatch(uid):
        raise ValueError(f"{uid!r} is no project uid such as 3.1795312966")
    return int(uid.partition(".")[0])


@dataclass(frozen=True, kw_only=True)
class LogKey:
    """One object of the log. `sha` is the first 16 hex digits of the body's SHA-256."""

    position: int
    sha: str


@dataclass(frozen=True, kw_only=True)
class CurrentKey:
    """The newest (or, once deleted, the last) version of one annotation."""

    annotation_id: str
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class MediaKey:
    """One uploaded file. `ext` is lower case with its dot, or empty."""

    sha256: str
    ext: str


@dataclass(frozen=True, kw_only=True)
class MetricsRowsKey:
    """The rows of one run of the metrics. `sha` is the first 16 hex digits of the file's SHA-256."""

    sha: str


@dataclass(frozen=True, kw_only=True)
class ExportKey:
    """One file of an export; `name` has no slash."""

    export_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SnapshotKey:
    """One file of a snapshot; `name` has no slash."""

    position: int
    name: str


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """One file of converted weights. `digest`: SHA-256 of the weights; `engine`: its kind and what made it."""

    digest: str
    engine: str
    name: str


@dataclass(frozen=True, kw_only=True)
class TimelineKey:
    """One file of what a project's timeline control learned on top of weights. `control`: the control's name; `weights`:
    the SHA-256 of the weights."""

    uid: str
    control: str
    weights: str
    name: str


@dataclass(frozen=True, kw_only=True)
class ModelKey:
    """One file of published weights; `name` has no slash."""

    version: str
    name: str


class ModelsLayout:
    """Builds and reads the keys of published weights below `root`, which is empty or ends with a slash."""

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def pointer(self) -> str:
        return f"{self.root}current.json"

    def model(self, key: ModelKey) -> str:
        return f"{self.root}{key.version}/{key.name}"

    def parse_model(self, key: str) -> ModelKey | None:
        found = _MODEL.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return ModelKey(version=found[1], name=found[2]) if found else None


class Layout:
    """Builds and reads the keys of one project under an optional prefix."""

    def __init__(self, uid: str, prefix: str = "") -> None:
        project_id_of(uid)
        self.uid = uid
        self.root = f"{projects_prefix(prefix)}{uid}/"

    @property
    def log_prefix(self) -> str:
        return f"{self.root}log/"

    def log_day_prefix(self, day: datetime) -> str:
        return f"{self.log_prefix}{day.astimezone(UTC):%Y/%m/%d}/"

    def log(self, key: LogKey) -> str:
        day = datetime.fromtimestamp(key.position / 1000, UTC)
        return f"{self.log_day_prefix(day)}{key.position:013d}-{key.sha}.jsonl"

    def log_from(self, position: int) -> str:
        """What a listing starts after so as to begin with the first object of this position or a later one."""
        return f"{self.log_day_prefix(datetime.fromtimestamp(position / 1000, UTC))}{position:013d}"

    def parse_log(self, key: str) -> LogKey | None:
        """The fields of a log key, or None when it is none of this project's."""
        found = _LOG.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return LogKey(position=int(found[4]), sha=found[5]) if found else None

    @property
    def current_prefix(self) -> str:
        return f"{self.root}current/"

    def current(self, key: CurrentKey) -> str:
        return f"{self.root}current/{'deleted/' if key.deleted else ''}annotations/{key.annotation_id}.json"

    def parse_current(self, key: str) -> CurrentKey | None:
        found = _CURRENT.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return CurrentKey(annotation_id=found[2], deleted=bool(found[1])) if found else None

    @property
    def media_prefix(self) -> str:
        return f"{self.root}media/"

    def media(self, key: MediaKey) -> str:
        return f"{self.root}media/{key.sha256}{key.ext}"

    def parse_media(self, key: str) -> MediaKey | None:
        found = _MEDIA.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return MediaKey(sha256=found[1], ext=found[2] or "") if found else None

    @property
    def metrics_prefix(self) -> str:
        return f"{self.root}metrics/"

    @property
    def metrics_summary(self) -> str:
        return f"{self.metrics_prefix}summary.json"

    def metrics_rows(self, key: MetricsRowsKey) -> str:
        return f"{self.metrics_prefix}annotations-{key.sha}.jsonl"

    def parse_metrics_rows(self, key: str) -> MetricsRowsKey | None:
        found = _METRICS.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return MetricsRowsKey(sha=found[1]) if found else None

    @property
    def exports_prefix(self) -> str:
        return f"{self.root}exports/"

    def export(self, key: ExportKey) -> str:
        return f"{self.exports_prefix}{key.export_id}/{key.name}"

    def parse_export(self, key: str) -> ExportKey | None:
        found = _EXPORT.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return ExportKey(export_id=found[1], name=found[2]) if found else None

    @property
    def snapshots_prefix(self) -> str:
        return f"{self.root}snapshots/"

    def snapshot(self, key: SnapshotKey) -> str:
        return f"{self.snapshots_prefix}{key.position:013d}/{key.name}"

    def parse_snapshot(self, key: str) -> SnapshotKey | None:
        found = _SNAPSHOT.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return SnapshotKey(position=int(found[1]), name=found[2]) if found else None

    @property
    def restores_prefix(self) -> str:
        """Restores that were made of this project's record."""
        return f"{self.root}restores/"

    def restore_order(self, restore_id: str) -> str:
        return f"{self.restores_prefix}{restore_id}/order.json"

    def restore_project(self, restore_id: str) -> str:
        return f"{self.restores_prefix}{restore_id}/project.json"

    def parse_restore_order(self, key: str) -> str | None:
        """The restore's id."""
        found = _RESTORE.fullmatch(key.removeprefix(self.root)) if key.startswith(self.root) else None
        return found[1] if found else None

    def prelabel_report(self, prelabel_id: str) -> str:
        return f"{self.root}prelabels/{prelabel_id}/report.jsonl"

    @property
    def restore_report(self) -> str:
        """There for a project that a restore made."""
        return f"{self.root}restore/report.json"

    @property
    def restore_ids(self) -> str:
        return f"{self.root}restore/ids.jsonl"


def models_prefix(prefix: str = "") -> str:
    """Published weights lie under this."""
    return f"{prefix}/models/" if prefix else "models/"


def projects_prefix(prefix: str = "") -> str:
    """Everything we keep lies under this."""
    return f"{prefix}/projects/" if prefix else "projects/"


def engine_key(key: EngineKey, prefix: str = "") -> str:
    """Shared by all projects: it belongs to weights."""
    return f"{prefix}/{_engine_path(key)}" if prefix else _engine_path(key)


def _engine_path(key: EngineKey) -> str:
    return f"models/engines/{key.digest}/{key.engine}/{key.name}"


def parse_engine_key(key: str, prefix: str = "") -> EngineKey | None:
    start = f"{prefix}/" if prefix else ""
    found = _ENGINE.fullmatch(key.removeprefix(start)) if key.startswith(start) else None
    return EngineKey(digest=found[1], engine=found[2], name=found[3]) if found else None


def timeline_key(key: TimelineKey, prefix: str = "") -> str:
    """Not below the project, since it is weights, and those are published in one place. Raises ValueError for no uid.

    A control may have any name, so its hash stands in the key."""
    project_id_of(key.uid)
    control = hashlib.sha256(key.control.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{models_prefix(prefix)}timelines/{key.uid}/{control}-{key.weights[:16]}/{key.name}"


def uid_of_key(key: str, prefix: str = "") -> str | None:
    """The project a key belongs to, or None."""
    start = projects_prefix(prefix)
    if not key.startswith(start):
        return None
    uid = key[len(start) :].partition("/")[0]
    return uid if _UID.fullmatch(uid) else None


def safe_ext(filename: str) -> str:
    """The lower-case extension of a file name with its dot, or "" when it has none fit for a key."""
    _, dot, ext = filename.rpartition(".")
    ext = ext.lower()
    return f".{ext}" if dot and re.fullmatch(r"[a-z0-9]{1,10}", ext) else ""
