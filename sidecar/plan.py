"""The values that connecting is decided with: what is wanted, what was found, and the steps between the two.

Facts about Label Studio were tried on 1.23.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.hooks import wanted_hook
from bridge.keys import project_uid, projects_prefix
from bridge.records import parse_time
from bridge.settings import SidecarSettings

OK, MISSING = "ok", "missing"  # words for a part that is as wanted, and for one that is not there
WEBHOOK, ML_BACKEND, STORAGE, BASELINE = "webhook", "ML backend", "pictures", "baseline"
ML_TITLE = "CORTX pre-labels"
BASELINE_UNDER_WAY = ("queued", "running")

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Project:
    """What connecting needs to know of a project. `model_version` names whose predictions annotators see."""

    id: int
    title: str
    uid: str
    model_version: str = ""
    shows_predictions: bool = True

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Project:
        """From Label Studio's own JSON; raises ValueError when its created_at cannot be read."""
        created_at = parse_time(body.get("created_at"))
        if created_at is None:
            raise ValueError(f"project {body.get('id')} has no created_at")
        return cls(
            id=body["id"],
            title=body.get("title") or "",
            uid=project_uid(body["id"], created_at),
            model_version=body.get("model_version") or "",
            shows_predictions=bool(body.get("show_collab_predictions", True)),
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What connecting registers, as Label Studio's API takes it. The bodies hold secrets and are never shown."""

    hook: Json = field(repr=False)
    ml_backend: Json | None = field(repr=False)
    storage: Json = field(repr=False)
    record_root: str

    @property
    def ml_hook_url(self) -> str | None:
        """The webhook that Label Studio registers by itself with an ML backend: all actions, no secret, no password."""
        return f"{self.ml_backend['url']}/webhook" if self.ml_backend else None

    @property
    def pictures(self) -> str:
        return f"s3://{self.storage['bucket']}/{self.storage['prefix']}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is there. `trouble` says why a part could not be read; `has_pictures` is None when that is not known."""

    webhooks: Sequence[Json] = ()
    ml_backends: Sequence[Json] = ()
    storages: Sequence[Json] = ()
    storage_trouble: str = ""
    has_pictures: bool | None = None
    baseline_state: str = ""
    trouble: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a plan; `text` never holds a secret."""

    part: str
    text: str


class Fine(Step):
    """Already as it should be."""


class Note(Step):
    """Nothing to carry out, but a person should read it."""


class CannotTell(Step):
    """The part could not be read; counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Call(Step):
    """One request to Label Studio."""

    method: str
    path: str
    body: Json | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class RemoveHooks(Step):
    """Remove the webhooks with the address `url`, looked up when it is carried out: the step before adds one."""

    url: str


class StartBaseline(Step):
    """Enqueue the baseline."""


class ReadAgain(Step):
    """Ask for another reading once the present one has ended."""


class StopBaseline(Step):
    """Take the project off the list of those to be read."""


def wanted(settings: SidecarSettings, project_id: int) -> Wanted:
    """What our settings say should be registered for a project."""
    s3 = settings.s3
    ml: Json | None = None
    if settings.ml_backend_url:
        ml = {"project": project_id, "url": settings.ml_backend_url, "title": ML_TITLE} | _ml_auth(settings)
        if settings.ml_interactive:  # otherwise what people chose in Label Studio stays
            ml["is_interactive"] = True
    return Wanted(
        hook=wanted_hook(project_id, settings.sidecar_url, settings.webhook_secret),
        ml_backend=ml,
        storage={
            "project": project_id,
            "title": f"CORTX {s3.bucket}/{settings.storage_prefix}",
            "bucket": s3.bucket,
            "prefix": settings.storage_prefix,
            "regex_filter": settings.storage_regex,
            "use_blob_urls": True,
            "presign": False,  # CORTX cannot presign: Label Studio serves the bytes itself.
            "recursive_scan": True,
            "s3_endpoint": settings.label_studio_s3_url or s3.endpoint_url,
            "region_name": s3.region,
            "aws_access_key_id": s3.access_key_id,
            "aws_secret_access_key": s3.secret_access_key,
        },
        record_root=projects_prefix(s3.bucket_prefix),
    )


def _ml_auth(settings: SidecarSettings) -> Json:
    """Without a password no `basic_auth_pass` is sent: Label Studio answers 500 to an empty one on creation."""
    if settings.basic_auth_user and settings.basic_auth_pass:
        return {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": settings.basic_auth_user,
            "basic_auth_pass": settings.basic_auth_pass,
        }
    return {"auth_method": "NONE", "basic_auth_user": ""}
