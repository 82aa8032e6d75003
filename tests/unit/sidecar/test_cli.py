"""The commands as a person runs them: what they print, and their exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.edges import redis as names
from sidecar.cli import cli
from tests.unit.sidecar.fakes import UID, World


def run(world: World | None, *args: str) -> Result:
    return CliRunner().invoke(
        cli, args, obj=None if world is None else world.clients, prog_name="python -m sidecar"
    )


@pytest.mark.parametrize(
    "command", [(), ("serve",), ("connect",), ("disconnect",), ("sync",), ("status",), ("quarantine",)]
)
def test_help_needs_no_settings(command: tuple[str, ...]) -> None:
    result = run(None, *command, "--help")
    assert result.exit_code == 0
    assert "Usage: python -m sidecar" in result.output


def test_every_command_and_option_explains_itself() -> None:
    def explained(command: Any) -> bool:
        options = [option for option in command.params if option.param_type_name == "option"]
        return bool(command.help) and all(option.help for option in options)

    commands = list(cli.commands.values())
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        assert explained(command), command.name


def test_missing_settings_are_all_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(None, "status")
    assert result.exit_code == 1
    assert all(
        name in result.stderr for name in ("LABEL_STUDIO_URL", "REDIS_URL", "BUCKET", "WEBHOOK_SECRET")
    )
    assert "Traceback" not in result.output


def test_wrong_usage_is_exit_code_two() -> None:
    assert run(World(), "connect").exit_code == 2
    assert run(World(), "connect", "3", "--nonsense").exit_code == 2


def test_connect_prints_each_step_with_its_result() -> None:
    world = World()
    result = run(world, "connect", "Animals")
    assert result.exit_code == 0
    first, *steps = result.stdout.splitlines()
    assert first == f"Project 3 Animals ({UID})"
    assert [line[14:22].strip() for line in steps] == ["done"] * 5
    again = run(world, "connect", "3")
    assert "done" not in again.stdout


def test_a_dry_run_prints_the_plan_and_changes_nothing() -> None:
    world = World()
    result = run(world, "connect", "3", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count("would do") == 5
    assert (world.studio.changes, world.enqueued) == ([], [])


def test_a_failed_step_is_exit_code_one_and_the_summary_names_it() -> None:
    world = World()
    world.studio.ml_password = "another"
    result = run(world, "connect", "3")
    assert result.exit_code == 1
    assert result.stderr == "Error: 1 of 5 steps failed: ML backend. Mend that and run it again.\n"
    assert "FAILED" in result.stdout
    assert "BASIC_AUTH_PASS" in result.stdout
    assert len(world.enqueued) == 1


def test_connect_as_json_is_one_document_also_when_a_step_failed() -> None:
    world = World()
    world.studio.ml_password = "another"
    result = run(world, "connect", "3", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["project"]["uid"]) == (1, False, UID)
    assert [step["result"] for step in found["steps"]].count("failed") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("connect", "3"),
        ("connect", "3", "--json"),
        ("status",),
        ("status", "--json"),
        ("disconnect", "3"),
        ("sync", "3"),
    ],
)
def test_no_command_prints_a_secret(args: tuple[str, ...]) -> None:
    world = World()
    run(world, "connect", "3")
    for down in (False, True):
        world.redis.down = down
        world.studio.ml_password = "another" if down else "secret-ml-pass"
        result = run(world, *args)
        assert "secret-" not in result.output


def test_an_ambiguous_title_and_an_unknown_one_are_one_clear_line() -> None:
    world = World()
    world.studio.add_project(9, "Animals")
    result = run(world, "connect", "Animals")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "3, 9" in result.stderr
    assert run(world, "connect", "Plants").exit_code == 1


def test_baseline_can_be_asked_for_and_left_out() -> None:
    world = World()
    run(world, "connect", "3", "--no-baseline")
    assert world.enqueued == []
    world.redis.hset(names.baseline(UID), mapping={"state": "complete"})
    run(world, "connect", "3", "--baseline")
    assert len(world.enqueued) == 1


def test_disconnect_says_where_the_record_stays() -> None:
    world = World()
    run(world, "connect", "3")
    result = run(world, "disconnect", "3")
    assert result.exit_code == 0
    assert f"s3://pictures/projects/{UID}/" in result.stdout


def test_sync_prints_how_many_tasks_there_are() -> None:
    world = World()
    run(world, "connect", "3")
    assert run(world, "sync", "3").stdout == "2 new tasks; project 3 has 2 tasks now\n"
    assert json.loads(run(world, "sync", "3", "--json").stdout) == {"new": 2, "tasks": 4}


def test_a_failed_sync_says_why() -> None:
    world = World()
    run(world, "connect", "3")
    (id,) = world.studio.rows["s3"]
    world.studio.refuse[f"POST /api/storages/s3/{id}/sync"] = "Debugging info is not available"
    result = run(world, "sync", "3")
    assert result.exit_code == 1
    assert "LABEL_STUDIO_S3_URL" in result.stderr


def test_status_is_exit_code_one_when_something_is_down_and_still_shows_the_rest() -> None:
    world = World()
    run(world, "connect", "3")
    assert run(world, "status").exit_code == 0
    world.studio.down = True
    for args in (("status",), ("status", "3")):
        result = run(world, *args)
        assert (result.exit_code, result.stderr) == (1, "Error: down: Label Studio\n")
        assert UID in result.stdout


def test_status_of_one_project_shows_that_one() -> None:
    world = World()
    world.studio.add_project(9, "Plants")
    found = json.loads(run(world, "status", "Plants", "--json").stdout)
    assert [project["id"] for project in found["projects"]] == [9]


def test_an_empty_quarantine_says_so() -> None:
    result = run(World(), "quarantine", "list")
    assert (result.exit_code, result.stdout) == (0, "The quarantine is empty.\n")
    assert run(World(), "quarantine", "show", "1-0").exit_code == 1
