"""`python -m sidecar restore`: what it prints, asks and refuses; the job runs in the test's own process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from bridge.edges import queue
from bridge.errors import Refused
from bridge.jobs import Job
from bridge.keys import Layout
from bridge.records import Record
from bridge.settings import SidecarSettings, WorkersSettings
from sidecar import restoring
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.fakes import gone, record, seconds_text
from tests.integration.test_restore import UID, World, story
from workers import context, restore

Make = Callable[..., World]


class Desk:
    """The command line over a world; jobs are carried out as they are asked for."""

    def __init__(self, world: World, connection: redis.Redis, settings: WorkersSettings) -> None:
        self.world = world
        self.asked: list[Job] = []
        context.install(world.here)
        self.clients = Clients(
            settings=SidecarSettings(
                label_studio=settings.label_studio,
                s3=settings.s3,
                redis_url=settings.redis_url,
                webhook_secret="a-secret-of-the-tests",
                api_token="a-token-of-the-tests",
            ),
            label_studio=world.target,  # type: ignore[arg-type]
            redis=connection,
            store=world.store,
            check_bucket=lambda: None,
            enqueue=self._enqueue,
        )

    def _enqueue(self, connection: redis.Redis, job: Job) -> str:
        self.asked.append(job)
        if job.name == "workers.restore.run":
            uid, id = str(job.args[0]), str(job.args[1])
            restore.run(uid, id)
            return "done"
        return queue.enqueue(connection, job)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["restore", *words], obj=self.clients)


@pytest.fixture
def make(
    workers_settings: WorkersSettings, redis_client: redis.Redis, _no_context_left: None
) -> Callable[..., Desk]:
    def made(records: Callable[[Layout], list[Record]] = story) -> Desk:
        return Desk(World(workers_settings, redis_client, records), redis_client, workers_settings)

    return made


def test_a_dry_run_shows_everything_and_changes_nothing(make: Callable[..., Desk]) -> None:
    desk = make()
    before = [info.key for info in desk.world.store.keys("")]
    shown = desk.run(UID, "--dry-run")
    assert shown.exit_code == 0, shown.output
    for words in (
        "5 tasks, 6 annotations",
        "1 uploaded files",
        "ann@example.com is made a user",
        "user 1 there",
    ):
        assert words in shown.output
    plan = json.loads(desk.run(UID, "--dry-run", "--json").output)["plan"]
    assert plan["users"] == {"matched": {"us@example.com": 1}, "create": ["ann@example.com"]}
    assert (desk.world.target.projects_by_id, desk.asked) == ({}, [])
    assert [info.key for info in desk.world.store.keys("")] == before


def test_the_restored_project_is_connected_and_compared(make: Callable[..., Desk]) -> None:
    desk = make()
    done = desk.run(UID, "--yes")
    assert done.exit_code == 0, done.output
    assert "every field is as the record says" in done.output
    (hook,) = desk.world.target.hooks
    assert hook["project"] == desk.world.project
    assert [job.queue for job in desk.asked] == ["restore", "baseline"]


def test_the_same_command_again_compares_the_same_project(make: Callable[..., Desk]) -> None:
    desk = make()
    desk.run(UID, "--yes")
    again = desk.run(UID, "--yes")
    assert "restored before" in again.output
    assert len(desk.world.target.projects_by_id) == 1
    desk.world.annotation(4)["result"] = []
    differs = desk.run(UID, "--yes")
    assert differs.exit_code == 1
    assert "differs: annotation 4: result" in differs.output
    assert desk.run(UID, "--yes", "--again").exit_code == 0
    assert len(desk.world.target.projects_by_id) == 2


def test_a_project_is_found_by_id_or_title_though_label_studio_has_forgotten_it(
    make: Callable[..., Desk],
) -> None:
    desk = make()
    assert desk.run("4", "--dry-run").exit_code == 0
    assert desk.run("Animals", "--dry-run").exit_code == 0
    missing = desk.run("5", "--dry-run")
    assert missing.exit_code == 1
    assert "no record of a project '5'" in missing.output
    other = f"{desk.world.here.layout('4.1795999999').log_prefix}x"
    desk.world.store.put(other, b"")
    assert f"4.1795999999, {UID}" in desk.run("4").output or f"{UID}, 4.1795999999" in desk.run("4").output


def test_a_time_before_the_record_begins_is_refused(make: Callable[..., Desk]) -> None:
    refused = make().run(UID, "--at", "2020-01-01T00:00:00Z", "--yes")
    assert refused.exit_code == 1
    assert f"it goes from {seconds_text(10)}" in refused.output
    assert make().run(UID, "--at", "yesterday").exit_code == 2


def test_an_absent_project_goes_back_to_when_it_was_there(make: Callable[..., Desk]) -> None:
    def records(layout: Layout) -> list[Record]:
        return [*story(layout), gone("project", "4", received=31, born=0, observed=30)]

    shown = make(records).run(UID, "--dry-run")
    assert f"found without it at {seconds_text(30)}" in shown.output


def test_an_unknown_author_stops_it_until_a_file_names_him(make: Callable[..., Desk], tmp_path: Path) -> None:
    def records(layout: Layout) -> list[Record]:
        return [*story(layout), record("annotation", "9", task=12, result=[], completed_by=99)]

    desk = make(records)
    refused = desk.run(UID, "--yes")
    assert refused.exit_code == 1
    assert "cannot begin: user 99" in refused.output
    assert desk.world.target.projects_by_id == {}
    file = tmp_path / "users.csv"
    file.write_text("99,us@example.com\n")
    assert desk.run(UID, "--yes", "--users", str(file)).exit_code == 0


def test_nothing_is_begun_without_a_yes(make: Callable[..., Desk]) -> None:
    desk = make()
    assert desk.run(UID).exit_code == 1
    assert desk.asked == []


def test_storages_on_our_bucket_are_registered_again_and_others_named(make: Callable[..., Desk]) -> None:
    def records(layout: Layout) -> list[Record]:
        ours = {"type": "s3", "direction": "export", "bucket": desk_bucket, "prefix": "out"}
        other = {"type": "s3", "direction": "import", "bucket": "elsewhere", "prefix": ""}
        return [
            *story(layout),
            dataclasses.replace(record("storage", "1", **ours), id="export/s3/1"),
            dataclasses.replace(record("storage", "1", **other), id="import/s3/1"),
        ]

    desk_bucket = make().clients.settings.s3.bucket
    desk = make(records)
    done = desk.run(UID, "--yes")
    assert done.exit_code == 0, done.output
    (made,) = desk.world.target.storages
    assert (made["where"], made["bucket"], made["prefix"]) == ("export/s3", desk_bucket, "out")
    assert "import s3 elsewhere/: not registered again" in " ".join(done.output.split())
    assert made["aws_secret_access_key"] not in done.output


def test_an_address_with_a_password_is_refused_and_not_repeated(make: Callable[..., Desk]) -> None:
    refused = make().run(UID, "--to", "https://ann:s3cret@labels.example", "--yes")
    assert refused.exit_code == 2
    assert "RESTORE_API_KEY" in refused.output
    assert "s3cret" not in refused.output


def test_another_label_studio_is_asked_with_its_own_token(make: Callable[..., Desk]) -> None:
    desk = make()
    settings = dataclasses.replace(desk.clients.settings, restore_api_key="another-token")
    address, client = restoring.target_of(
        dataclasses.replace(desk.clients, settings=settings), "http://127.0.0.1:1/"
    )
    assert address == "http://127.0.0.1:1"
    with pytest.raises(Refused, match="RESTORE_API_KEY"):
        restoring.target_of(desk.clients, "http://127.0.0.1:1/")
    assert client._settings.api_key == "another-token"
    assert restoring.target_of(desk.clients, None)[1] is desk.world.target  # type: ignore[comparison-overlap]
