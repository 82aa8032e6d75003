"""The settings of each program: one frozen dataclass per program, read once from a mapping.

`from_env` reports every wrong value at once, by its environment name, with what it was (secrets excepted) and what
is allowed. Only the entry points (`__main__.py`, `sidecar/cli.py`) read the real environment; everything else is
handed a settings object. The README's table is compared with `all_settings()` by a test.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from bridge.errors import SettingsError
from bridge.exports import format_names, parse_cron

MIB = 1024 * 1024


def text(value: str) -> str:
    return value


def url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address such as http://127.0.0.1:8080")
    if "@" in parts.netloc:  # addresses are printed, and a restore's stands in the bucket
        raise ValueError("an address without a name and password in it, such as http://127.0.0.1:8080")
    return value.rstrip("/")


def proxy_url(value: str) -> str:
    allowed = "an address such as http://proxy.example:3128, with user:password@ before the name where it wants them"
    try:
        parts = urlsplit(value)
        given = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
    except ValueError:  # a port that is no number; what urlsplit says may hold the password
        given = False
    if not given or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(allowed)
    return value.rstrip("/")


def redis_url(value: str) -> str:
    if urlsplit(value).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("an address such as redis://127.0.0.1:6379/0")
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        allowed = f"a whole number from {low} to {high}"
        try:
            number = int(value)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= number <= high:
            raise ValueError(allowed)
        return number

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        allowed = f"a number from {low:g} to {high:g}"
        try:
            parsed = float(value)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= parsed <= high:
            raise ValueError(allowed)
        return parsed

    return parse


def log_level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("one of DEBUG, INFO, WARNING, ERROR")
    return value.upper()


def engine_name(value: str) -> str:
    if value.lower() not in ("auto", "torch", "onnx", "openvino", "tensorrt"):
        raise ValueError("one of auto, torch, onnx, openvino, tensorrt")
    return value.lower()


def bucket_name(value: str) -> str:
    """The names that both CORTX generations accept (cortx-s3server S3_put_bucket rules): no "--", "..", ".-"."""
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9]|[.-](?=[a-z0-9])){2,62}", value):
        raise ValueError(
            "3 to 63 of a-z 0-9 . - ; starts and ends with a letter or digit; no two of . - side by side"
        )
    return value


def prefix(value: str) -> str:
    if value.startswith("/") or "//" in value or ".." in value:
        raise ValueError("a key prefix such as team-a/labels, without a leading slash, '//' or '..'")
    return value.strip("/")


def regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return value


def cron_or_never(value: str) -> str:
    """A cron line, or "" for 0."""
    return "" if value == "0" else parse_cron(value)


def dotted_class(value: str) -> str:
    module, colon, name = value.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError("a class to import, as package.module:Class")
    return value


def yes_or_no(value: str) -> bool:
    if value.lower() not in ("yes", "no", "true", "false"):
        raise ValueError("yes or no")
    return value.lower() in ("yes", "true")


def secret_text(value: str) -> str:
    if len(value) < 8:
        raise ValueError("at least 8 characters")
    return value


def setting(
    env: str,
    parse: Callable[[str], Any],
    about: str,
    *,
    default: Any = MISSING,
    secret: bool = False,
) -> Any:
    """A dataclass field filled from the environment variable `env`; without a default it is required."""
    metadata = {"env": env, "parse": parse, "about": about, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def group(cls: type[Any]) -> Any:
    """A field that is itself a settings dataclass."""
    return dataclasses.field(metadata={"group": cls})


class FromEnv:
    """Gives a settings dataclass its `from_env`."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read this program's settings; raises SettingsError naming every wrong or missing value."""
        problems: list[str] = []
        settings = _read(cls, environ, problems)
        problems += cls.missing(environ)
        if problems:
            raise SettingsError("wrong settings:\n  " + "\n  ".join(problems))
        return settings  # type: ignore[no-any-return]

    @classmethod
    def missing(cls, environ: Mapping[str, str]) -> list[str]:
        """What no setting says alone."""
        return []


def _read(cls: type[Any], environ: Mapping[str, str], problems: list[str]) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if "group" in field.metadata:
            values[field.name] = _read(field.metadata["group"], environ, problems)
            continue
        env, parse = field.metadata["env"], field.metadata["parse"]
        raw = environ.get(env, "").strip()
        if raw == "":
            if field.default is MISSING:
                problems.append(f"{env} is not set: {field.metadata['about']}")
            continue
        try:
            values[field.name] = parse(raw)
        except ValueError as error:
            shown = "its value" if field.metadata["secret"] or "@" in raw else repr(raw)
            problems.append(f"{env}: {shown} is not allowed; allowed: {error}")
    return None if problems else cls(**values)


@dataclass(frozen=True, kw_only=True)
class S3Settings(FromEnv):
    """How to reach the object store. Names follow the AWS tools' own variables."""

    endpoint_url: str = setting("AWS_ENDPOINT_URL_S3", url, "address of CORTX or another S3 server")
    access_key_id: str = setting("AWS_ACCESS_KEY_ID", text, "access key of the object store")
    secret_access_key: str = setting(
        "AWS_SECRET_ACCESS_KEY", text, "secret key of the object store", secret=True
    )
    region: str = setting(
        "AWS_DEFAULT_REGION", text, "region used in signatures; CORTX accepts any", default="us-east-1"
    )
    ca_bundle: str | None = setting(
        "AWS_CA_BUNDLE", text, "file with the store's own CA certificate", default=None
    )
    proxy_url: str | None = setting(
        "S3_PROXY_URL",
        proxy_url,
        "proxy on the way to the object store, and to nothing else; empty: none, whatever HTTP_PROXY says",
        default=None,
        secret=True,  # it may hold a password
    )
    bucket: str = setting("BUCKET", bucket_name, "the bucket that keeps everything")
    bucket_prefix: str = setting("BUCKET_PREFIX", prefix, "key prefix inside the bucket", default="")


@dataclass(frozen=True, kw_only=True)
class LabelStudioSettings(FromEnv):
    """How our programs reach Label Studio."""

    url: str = setting("LABEL_STUDIO_URL", url, "address of Label Studio")
    api_key: str = setting(
        "LABEL_STUDIO_API_KEY", text, "a personal access token or a legacy token of Label Studio", secret=True
    )


@dataclass(frozen=True, kw_only=True)
class SidecarSettings(FromEnv):
    """`python -m sidecar …`: the door for webhooks, the API and the command line."""

    label_studio: LabelStudioSettings = group(LabelStudioSettings)
    s3: S3Settings = group(S3Settings)
    restore_api_key: str | None = setting(
        "RESTORE_API_KEY",
        text,
        "token of another Label Studio to restore into (`restore --to`)",
        default=None,
        secret=True,
    )
    redis_url: str = setting(
        "REDIS_URL", redis_url, "address of Redis, with its password if it has one", secret=True
    )
    webhook_secret: str = setting(
        "WEBHOOK_SECRET", secret_text, "secret that Label Studio sends with each webhook", secret=True
    )
    api_token: str = setting("API_TOKEN", secret_text, "bearer token for the sidecar's API", secret=True)
    sidecar_url: str = setting(
        "SIDECAR_URL",
        url,
        "the sidecar's address as Label Studio reaches it",
        default="http://127.0.0.1:9100",
    )
    ml_backend_url: str | None = setting(
        "ML_BACKEND_URL",
        url,
        "the ML backend's address as Label Studio reaches it; empty: none is registered",
        default=None,
    )
    ml_interactive: bool = setting(
        "ML_INTERACTIVE",
        yes_or_no,
        "yes: register the ML backend for interactive pre-annotation (the page's Auto-Annotation)",
        default=False,
    )
    basic_auth_user: str | None = setting(
        "BASIC_AUTH_USER", text, "user name that guards the ML backend", default=None
    )
    basic_auth_pass: str | None = setting(
        "BASIC_AUTH_PASS", text, "password that guards the ML backend", default=None, secret=True
    )
    storage_prefix: str = setting(
        "STORAGE_PREFIX",
        prefix,
        "where in the bucket the pictures to label lie (import storage)",
        default="images",
    )
    storage_regex: str = setting(
        "STORAGE_REGEX",
        regular_expression,
        "which keys under STORAGE_PREFIX become tasks (regular expression over the whole key)",
        default=r"(?i).*\.(jpe?g|png|webp|bmp|gif|tiff?)$",
    )
    label_studio_s3_url: str | None = setting(
        "LABEL_STUDIO_S3_URL",
        url,
        "the store's address as Label Studio reaches it; empty: the same",
        default=None,
    )
    host: str = setting("HOST", text, "address to listen on", default="127.0.0.1")
    port: int = setting("PORT", whole(1, 65535), "port to listen on", default=9100)
    web_workers: int = setting("WEB_WORKERS", whole(1, 64), "gunicorn processes of the sidecar", default=2)
    spool_dir: str = setting(
        "SPOOL_DIR", text, "folder for webhooks while Redis is away; keep it on a volume", default="spool"
    )
    spool_max_mib: int = setting(
        "SPOOL_MAX_MIB",
        whole(1, 1_000_000),
        "largest size of the spool, in MiB; half of it is an alarm, all of it refuses webhooks",
        default=4096,
    )
    # Redis takes no value above 512 MiB (its proto-max-bulk-len).
    webhook_max_mib: int = setting(
        "WEBHOOK_MAX_MIB", whole(1, 500), "largest webhook body, in MiB", default=64
    )
    log_level: str = setting("LOG_LEVEL", log_level, "DEBUG, INFO, WARNING or ERROR", default="INFO")


@dataclass(frozen=True, kw_only=True)
class WorkersSettings(FromEnv):
    """`python -m workers …`: the jobs and the scheduler."""

    label_studio: LabelStudioSettings = group(LabelStudioSettings)
    s3: S3Settings = group(S3Settings)
    restore_api_key: str | None = setting(
        "RESTORE_API_KEY",
        text,
        "token of another Label Studio to restore into (`restore --to`)",
        default=None,
        secret=True,
    )
    redis_url: str = setting(
        "REDIS_URL", redis_url, "address of Redis, with its password if it has one", secret=True
    )
    sidecar_url: str = setting(
        "SIDECAR_URL",
        url,
        "the sidecar's address as Label Studio reaches it",
        default="http://127.0.0.1:9100",
    )
    webhook_secret: str | None = setting(
        "WEBHOOK_SECRET",
        secret_text,
        "secret that Label Studio sends with each webhook; workers without it repair no webhooks",
        default=None,
        secret=True,
    )
    ml_backend_url: str | None = setting(
        "ML_BACKEND_URL",
        url,
        "the ML backend's address as Label Studio reaches it; empty: none is registered",
        default=None,
    )
    basic_auth_user: str | None = setting(
        "BASIC_AUTH_USER", text, "user name that guards the ML backend", default=None
    )
    basic_auth_pass: str | None = setting(
        "BASIC_AUTH_PASS", text, "password that guards the ML backend", default=None, secret=True
    )
    prelabel_new_tasks: bool = setting(
        "PRELABEL_NEW_TASKS",
        yes_or_no,
        "yes: tasks that are made in a connected project are pre-labelled as they come",
        default=False,
    )
    reconcile_seconds: int = setting(
        "RECONCILE_SECONDS",
        whole(0, 86400),
        "how often the tasks touched since the last look are compared with the record; 0: not",
        default=60,
    )
    reconcile_light_minutes: int = setting(
        "RECONCILE_LIGHT_MINUTES",
        whole(0, 10080),
        "how often all tasks are listed and counted, and new projects looked for; 0: not",
        default=60,
    )
    reconcile_full_cron: str = setting(
        "RECONCILE_FULL_CRON",
        cron_or_never,
        "when everything is compared (minute hour day month weekday); 0: never",
        default="30 2 * * *",
    )
    connect_new_projects: bool = setting(
        "CONNECT_NEW_PROJECTS",
        yes_or_no,
        "yes: projects that nobody has connected get the webhook and are read whole; else they are only listed",
        default=False,
    )
    baseline_page_size: int = setting(
        "BASELINE_PAGE_SIZE", whole(1, 5000), "tasks a page while a project is read whole", default=500
    )
    media_max_mib: int = setting(
        "MEDIA_MAX_MIB", whole(1, 102400), "largest uploaded file copied to media/, in MiB", default=2048
    )
    export_every_annotations: int = setting(
        "EXPORT_EVERY_ANNOTATIONS",
        whole(0, 1_000_000_000),
        "export a project after so many new annotations; 0: not",
        default=0,
    )
    export_cron: str = setting(
        "EXPORT_CRON",
        parse_cron,
        "export all connected projects at these times (minute hour day month weekday); empty: not",
        default="",
    )
    export_formats: str = setting(
        "EXPORT_FORMATS",
        format_names,
        "formats of the exports by count and by time, with commas between",
        default="JSON",
    )
    snapshot_every_records: int = setting(
        "SNAPSHOT_EVERY_RECORDS",
        whole(0, 1_000_000_000),
        "make a snapshot of a project after so many new records; 0: not",
        default=20_000,
    )
    snapshot_every_hours: int = setting(
        "SNAPSHOT_EVERY_HOURS",
        whole(0, 100_000),
        "make a snapshot of a project that has changed after so many hours; 0: not",
        default=24,
    )
    snapshot_keep_days: int = setting(
        "SNAPSHOT_KEEP_DAYS",
        whole(1, 100_000),
        "keep a snapshot of each day for so many days, before that one of each month",
        default=30,
    )
    sweep_seconds: float = setting(
        "SWEEP_SECONDS", number(0.2, 60), "how often the scheduler looks for forgotten streams", default=2.0
    )
    log_level: str = setting("LOG_LEVEL", log_level, "DEBUG, INFO, WARNING or ERROR", default="INFO")


@dataclass(frozen=True, kw_only=True)
class MlBackendSettings(FromEnv):
    """`python -m ml_backend`: pre-labels. Nothing is loaded from it on import."""

    @classmethod
    def missing(cls, environ: Mapping[str, str]) -> list[str]:
        if environ.get("MODEL", "").strip() or environ.get("MODEL_CLASS", "").strip():
            return []
        return ["MODEL is not set: weights, or MODEL_CLASS for a model of your own"]

    label_studio_url: str = setting("LABEL_STUDIO_URL", url, "address of Label Studio")
    label_studio_api_key: str | None = setting(
        "LABEL_STUDIO_API_KEY",
        text,
        "a personal access token or a legacy token of Label Studio",
        default=None,
        secret=True,
    )
    s3: S3Settings = group(S3Settings)
    redis_url: str | None = setting(
        "REDIS_URL",
        redis_url,
        "address of Redis, for inference records; empty: none are kept",
        default=None,
        secret=True,
    )
    basic_auth_user: str | None = setting(
        "BASIC_AUTH_USER", text, "user name that guards the ML backend", default=None
    )
    basic_auth_pass: str | None = setting(
        "BASIC_AUTH_PASS", text, "password that guards the ML backend", default=None, secret=True
    )
    model: str = setting(
        "MODEL",
        text,
        "weights: a file, or s3://…/models/current.json for those that `sidecar model activate` names; needed unless "
        "there is a MODEL_CLASS",
        default="",
    )
    model_class: str | None = setting(
        "MODEL_CLASS",
        dotted_class,
        "your own model instead, a label-studio-ml class: package.module:Class (docs/own-model.md)",
        default=None,
    )
    model_check_seconds: float = setting(
        "MODEL_CHECK_SECONDS",
        number(0, 86400),
        "how often to look whether MODEL is another file or version by now; 0: never",
        default=10.0,
    )
    model_root: str = setting(
        "MODEL_ROOT",
        text,
        "folder that `model_path` in a labeling config may name files of",
        default="models",
    )
    engine: str = setting(
        "ENGINE",
        engine_name,
        "what computes the model: auto, torch, onnx, openvino or tensorrt; auto: OpenVINO on a processor, torch on a GPU",
        default="auto",
    )
    engine_tolerance_px: float = setting(
        "ENGINE_TOLERANCE_PX",
        number(0, 100),
        "an engine whose boxes are further from torch's is not used, in pixels of the model's input",
        default=1.0,
    )
    model_score_threshold: float = setting(
        "MODEL_SCORE_THRESHOLD", number(0, 1), "regions below this score are dropped", default=0.5
    )
    host: str = setting("HOST", text, "address to listen on", default="127.0.0.1")
    port: int = setting("PORT", whole(1, 65535), "port to listen on", default=9090)
    web_threads: int = setting(
        "WEB_THREADS", whole(4, 256), "requests answered side by side, or waiting", default=64
    )
    predict_threads: int | None = setting(
        "PREDICT_THREADS", whole(1, 256), "processor threads of the model; empty: one a core", default=None
    )
    predict_queue: int = setting(
        "PREDICT_QUEUE",
        whole(1, 100_000),
        "pictures that may wait for one model; a request beyond that is answered 503",
        default=256,
    )
    predict_budget_s: float = setting(
        "PREDICT_BUDGET_S",
        number(1, 3600),
        "after this time a request is answered with what is done; Label Studio waits 100 s",
        default=85.0,
    )
    request_max_mib: int = setting(
        "REQUEST_MAX_MIB", whole(1, 1024), "largest request from Label Studio, in MiB", default=64
    )
    image_timeout_s: float = setting(
        "IMAGE_TIMEOUT_S", number(0.1, 600), "longest time to fetch one image, in seconds", default=20.0
    )
    image_max_mib: int = setting("IMAGE_MAX_MIB", whole(1, 4096), "largest image file, in MiB", default=50)
    image_max_megapixels: int = setting(
        "IMAGE_MAX_MEGAPIXELS", whole(1, 10000), "largest image, in million pixels", default=100
    )
    image_allowed_hosts: str = setting(
        "IMAGE_ALLOWED_HOSTS",
        text,
        "hosts that pictures and videos may come from, with commas between: *, *.example.org, nas.example.org; "
        "one named in full may have a private address; Label Studio and the object store always may",
        default="*",
    )
    image_allow_private: bool = setting(
        "IMAGE_ALLOW_PRIVATE",
        yes_or_no,
        "yes: all of them may have a private address, this machine's own included",
        default=False,
    )
    image_cache_mib: int = setting(
        "IMAGE_CACHE_MIB",
        whole(0, 10_000_000),
        "disk for fetched images under CACHE_DIR, in MiB, so that they are not fetched again; 0: none",
        default=1024,
    )
    video_timeout_s: float = setting(
        "VIDEO_TIMEOUT_S", number(1, 3600), "longest time to fetch one video, in seconds", default=60.0
    )
    video_max_mib: int = setting("VIDEO_MAX_MIB", whole(1, 65536), "largest video file, in MiB", default=512)
    local_files_document_root: str | None = setting(
        "LOCAL_FILES_DOCUMENT_ROOT",
        text,
        "Label Studio's local-files folder, if this machine has it; empty: ask Label Studio",
        default=None,
    )
    cache_dir: str = setting(
        "CACHE_DIR",
        text,
        "folder for weights from the bucket, converted weights and fetched images",
        default=".cache",
    )
    log_level: str = setting("LOG_LEVEL", log_level, "DEBUG, INFO, WARNING or ERROR", default="INFO")


PROGRAMS: dict[str, type[Any]] = {
    "sidecar": SidecarSettings,
    "workers": WorkersSettings,
    "ml_backend": MlBackendSettings,
}


@dataclass(frozen=True, kw_only=True)
class SettingDoc:
    """One row of the README's table. `default` is None where a value must be given."""

    env: str
    about: str
    default: str | None
    secret: bool
    programs: tuple[str, ...]


def _written(default: Any) -> str:
    """A default as one writes it into a .env file."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def all_settings() -> list[SettingDoc]:
    """Every setting of every program, in the order of the dataclasses, each environment name once."""
    found: dict[str, SettingDoc] = {}
    for program, cls in PROGRAMS.items():
        for field in _leaves(cls):
            env = field.metadata["env"]
            default = None if field.default is MISSING else _written(field.default)
            programs = (*found[env].programs, program) if env in found else (program,)
            if env in found and found[env].default not in (default, None) and default is not None:
                default = f"{found[env].default} / {default}"
            found[env] = SettingDoc(
                env=env,
                about=field.metadata["about"],
                default=default,
                secret=field.metadata["secret"],
                programs=programs,
            )
    return list(found.values())


def _leaves(cls: type[Any]) -> Iterator[dataclasses.Field[Any]]:
    for field in dataclasses.fields(cls):
        if "group" in field.metadata:
            yield from _leaves(field.metadata["group"])
        else:
            yield field
