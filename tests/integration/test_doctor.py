"""The doctor on a healthy stack, and on each of the things that break."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from bridge.edges import redis as names
from bridge.edges.s3 import S3Store, make_client
from bridge.edges.s3_probe import Probe
from bridge.errors import Refused
from bridge.settings import S3Settings, SidecarSettings
from sidecar.cli import cli
from sidecar.clients import Clients
from sidecar.connect import connect_steps
from sidecar.doctor.checks import Check
from sidecar.doctor.examine import examine, utc_now
from sidecar.gather import gather
from sidecar.plan import Call, Project, wanted
from tests.integration.conftest import ROOT
from tests.unit.sidecar.fakes import ENVIRON, UID, FakeLabelStudio

PAGE = (ROOT / "docs" / "doctor.md").read_text()
EVERYTHING = [
    *(
        "projects.view",
        "projects.change",
        "tasks.view",
        "annotations.view",
        "webhooks.view",
        "webhooks.change",
    ),
    *("storages.view", "storages.change", "storages.sync", "predictions.any", "views.view"),
]


class Studio(FakeLabelStudio):
    """What the doctor asks besides: who we are, which version, and opening an address as a store."""

    token_refused = False
    said = "Debugging info is not available for s3 endpoints on domain: ."

    def get(self, path: str, **params: Any) -> Any:
        if self.token_refused:
            raise Refused(f"GET {path}: 401 Invalid token.", hint="check LABEL_STUDIO_API_KEY")
        if path == "/api/current-user/whoami" and not self.down:
            return {"email": "a@example.com", "permissions": EVERYTHING}
        if path == "/api/version":
            return {"release": "1.23.2"}
        return super().get(path, **params)

    def post(self, path: str, body: Any, *, timeout_s: float | None = None, **more: Any) -> Any:
        if path.endswith("/validate") and "id" not in body:
            if body["bucket"] == "doctor-probe":
                raise Refused(self.said)
            return None
        return super().post(path, body, timeout_s=timeout_s, **more)


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def health_url() -> Iterator[str]:
    """Stands for the sidecar and the ML backend."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class Patient:
    """A stack to examine: well, until a test breaks it."""

    def __init__(self, s3: S3Settings, redis_url: str, health_url: str, folder: Path) -> None:
        self.studio = Studio()
        self.now: Callable[[], datetime] = utc_now
        self.environ = ENVIRON | {
            "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
            "BUCKET": s3.bucket,
            "BUCKET_PREFIX": s3.bucket_prefix,
            "REDIS_URL": redis_url,
            "SIDECAR_URL": health_url,
            "ML_BACKEND_URL": f"{health_url}/ml",
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "MODEL": "models/any.pt",
            "SPOOL_DIR": str(folder / "spool"),
        }

    def clients(self, settings: SidecarSettings) -> Clients:
        client = make_client(settings.s3, attempts=1)
        store = S3Store(settings.s3, client=client)
        self.studio.storage_keys = settings.s3.secret_access_key
        return Clients(
            settings=settings,
            label_studio=self.studio,  # type: ignore[arg-type]
            redis=redis.Redis.from_url(
                settings.redis_url, socket_timeout=1, socket_connect_timeout=1, retry=None
            ),
            store=store,
            check_bucket=store.check,
        )

    def connect(self) -> None:
        clients = self.clients(SidecarSettings.from_env(self.environ))
        project = Project.of(self.studio.get("/api/projects/3"))
        want = wanted(clients.settings, 3)
        found = gather(clients, project, want, check=False)
        for step in connect_steps(want, found, project, baseline=False):
            if isinstance(step, Call):
                self.studio.request(step.method, step.path, json=step.body)
        for hook in list(self.studio.rows["webhooks"].values()):
            if hook["url"] == want.ml_hook_url:
                del self.studio.rows["webhooks"][hook["id"]]

    def examine(self, **more: Any) -> list[Check]:
        return list(
            examine(self.environ, self.clients, lambda settings: Probe(settings.s3), now=self.now, **more)
        )


@pytest.fixture
def patient(
    s3_settings: S3Settings,
    store: S3Store,
    redis_url: str,
    redis_client: redis.Redis,
    health_url: str,
    tmp_path: Path,
) -> Patient:
    made = Patient(s3_settings, redis_url, health_url, tmp_path)
    made.connect()
    redis_client.hset(names.baseline(UID), mapping={"state": "done"})
    return made


def failed(checks: list[Check]) -> dict[tuple[str, str], Check]:
    found = {(check.area, check.name): check for check in checks if check.result == "fail"}
    for check in found.values():
        assert check.remedy, check
    shown = json.dumps([vars(check) for check in checks])
    for name in (
        "LABEL_STUDIO_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "WEBHOOK_SECRET",
        "API_TOKEN",
        "BASIC_AUTH_PASS",
    ):
        assert ENVIRON[name] not in shown
    return found


@pytest.mark.parametrize("thorough", [False, True])
def test_a_healthy_stack_is_well_and_nothing_is_left_in_the_bucket(
    patient: Patient, store: S3Store, thorough: bool
) -> None:
    store.put("team-a/projects/1.1/log/x", b"kept")
    checks = patient.examine(thorough=thorough)
    assert failed(checks) == {}
    assert [(c.name, c.result) for c in checks if c.area == "projects"] == [("3 Animals", "ok")]
    assert {check.area for check in checks} == {
        "settings",
        "Redis",
        "Label Studio",
        "ours",
        "projects",
        "bucket",
    }
    done = {check.name for check in checks if check.area == "bucket" and check.result == "ok"}
    assert done >= {"clock", "opens", "write", "read", "list", "multipart", "delete"}
    assert [info.key for info in store.keys()] == ["team-a/projects/1.1/log/x"]  # noqa: SIM118
    uploads = store._client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    assert uploads == []


def test_a_wrong_access_key_is_named(patient: Patient) -> None:
    patient.environ["AWS_ACCESS_KEY_ID"] = "nobody"
    bad = failed(patient.examine())[("bucket", "opens")]
    assert "AWS_ACCESS_KEY_ID" in bad.remedy
    assert bad.remedy in PAGE


def test_a_wrong_secret_key_is_named(patient: Patient) -> None:
    patient.environ["AWS_SECRET_ACCESS_KEY"] = "another-secret-key"
    bad = failed(patient.examine())[("bucket", "opens")]
    assert "AWS_SECRET_ACCESS_KEY" in bad.remedy
    assert bad.remedy in PAGE


def test_a_wrong_clock_is_told_with_its_seconds(patient: Patient) -> None:
    patient.now = lambda: datetime.now(UTC) + timedelta(minutes=20)
    bad = failed(patient.examine())[("bucket", "clock")]
    assert re.search(r"12\d\d s ahead", bad.text)
    assert "NTP" in bad.remedy
    assert bad.remedy in PAGE


def test_a_missing_bucket_comes_with_the_command_that_makes_it(patient: Patient) -> None:
    patient.environ["BUCKET"] = "nowhere-to-be-found"
    bad = failed(patient.examine())[("bucket", "opens")]
    assert "bucket create nowhere-to-be-found" in bad.remedy
    assert bad.remedy.replace("nowhere-to-be-found", "labls") in PAGE


def test_redis_down_costs_only_what_needs_it(patient: Patient) -> None:
    patient.environ["REDIS_URL"] = "redis://:secret-redis-pass@127.0.0.1:9/0"
    checks = patient.examine()
    assert list(failed(checks)) == [("Redis", "answers")]
    assert failed(checks)[("Redis", "answers")].remedy in PAGE
    assert "secret-redis-pass" not in str(checks)
    assert any(check.name == "delete" and check.result == "ok" for check in checks)


def test_a_wrong_token_is_told_apart_from_a_dead_label_studio(patient: Patient) -> None:
    patient.studio.token_refused = True
    checks = patient.examine()
    assert "LABEL_STUDIO_API_KEY" in failed(checks)[("Label Studio", "token")].remedy
    patient.studio.token_refused, patient.studio.down = False, True
    assert list(failed(patient.examine())) == [("Label Studio", "address")]


def test_an_unreachable_ml_backend_is_named_here_and_in_its_project(patient: Patient) -> None:
    patient.environ["ML_BACKEND_URL"] = "http://127.0.0.1:9"
    for backend in patient.studio.rows["ml"].values():
        backend |= {"url": "http://127.0.0.1:9", "state": "DI", "readable_state": "Disconnected"}
    bad = failed(patient.examine())
    assert set(bad) == {("ours", "ML backend"), ("projects", "3 Animals")}
    assert "Disconnected" in bad[("projects", "3 Animals")].text
    assert bad[("ours", "ML backend")].remedy in PAGE
    assert bad[("projects", "3 Animals")].remedy.replace("connect 3", "connect 1") in PAGE


def test_a_label_studio_that_refuses_private_addresses_is_told_which_variable(patient: Patient) -> None:
    patient.studio.said = "403 URL resolves to a reserved network address (block: 127.0.0.0/8)"
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in failed(patient.examine())[("Label Studio", "reach")].remedy


def test_the_command_prints_remedies_and_ends_with_one(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = patient.environ | {"REDIS_URL": "redis://127.0.0.1:9/0", "SIDECAR_URL": "http://127.0.0.1:9"}
    result = CliRunner().invoke(cli, ["doctor"], env=environ)
    assert result.exit_code == 1
    assert "→ start it (`python -m sidecar serve`)" in result.stdout
    result = CliRunner().invoke(cli, ["doctor", "--json"], env=environ)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_settings_alone_are_examined_when_they_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["doctor", "--json"], env={"BUCKET": "a--b"})
    found = json.loads(result.stdout)["checks"]
    assert {check["area"] for check in found} == {"settings"}
    assert any("BUCKET" in check["remedy"] for check in found)


def test_a_bucket_that_may_only_be_read_says_so(patient: Patient) -> None:
    class ReadOnly(S3Store):
        def put(self, key: str, body: bytes, **_: Any) -> None:
            raise Refused(
                f"writing {key}: AccessDenied", hint="the key may not do this: check the bucket policy"
            )

    whole = patient.clients

    def clients(settings: SidecarSettings) -> Clients:
        return replace(whole(settings), store=ReadOnly(settings.s3))

    patient.clients = clients  # type: ignore[method-assign]
    bad = failed(patient.examine())
    assert list(bad) == [("bucket", "write")]
    assert "policy" in bad[("bucket", "write")].remedy


def test_a_proxy_is_shown_without_its_password(patient: Patient) -> None:
    patient.environ["S3_PROXY_URL"] = "http://operator:proxy-secret-pass@127.0.0.1:9"
    checks = patient.examine()
    shown = next(check for check in checks if check.name == "S3_PROXY_URL")
    assert (shown.result, shown.text) == ("info", "the store is asked through 127.0.0.1:9")
    assert "S3_PROXY_URL" in failed(checks)[("bucket", "opens")].remedy
    assert "proxy-secret-pass" not in str(checks)


def test_a_proxy_that_is_not_used_is_told(patient: Patient) -> None:
    patient.environ["https_proxy"] = "http://127.0.0.1:9"
    checks = patient.examine()
    assert failed(checks) == {}
    assert "HTTPS_PROXY notwithstanding" in str(checks)
