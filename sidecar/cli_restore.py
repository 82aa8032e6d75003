"""`python -m sidecar restore PROJECT`: bring a project back from its record in the bucket."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bridge.errors import BridgeError
from bridge.records import parse_time
from bridge.restore_people import read_users_file
from bridge.settings import url
from sidecar import restoring, show, show_restore
from sidecar.apply import carry_out, failed
from sidecar.clients import Clients
from sidecar.command import as_json, clients_of, fail, print_json, says_errors
from sidecar.connect import connect_steps
from sidecar.gather import gather, project_by_id
from sidecar.plan import STORAGE, Call, Note, Step, wanted


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            given = datetime.fromisoformat(value)
            found = parse_time((given if given.tzinfo else given.replace(tzinfo=UTC)).isoformat())
        except ValueError:
            found = None
        if found is None:
            self.fail(f"{value!r} is no time such as 2026-11-22T08:30:00Z (without a zone: UTC)", param, ctx)
        return found


class _Url(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if isinstance(value, str) and "@" in value:  # it would stand in the bucket, and in what we print
            self.fail(
                "it has a name or password in it: give the address alone, and RESTORE_API_KEY", param, ctx
            )
        try:
            return url(value)
        except ValueError as error:
            self.fail(f"{value!r} is not {error}", param, ctx)


@click.command()
@click.argument("project")
@click.option(
    "--at", type=_Time(), help="The moment to go back to. By default the last at which the project was there."
)
@click.option(
    "--to",
    type=_Url(),
    help="Another Label Studio; its token is RESTORE_API_KEY. By default LABEL_STUDIO_URL.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option(
    "--users",
    "users_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Who is who: JSON, or lines `old,new`: e-mail address or id in the record, e-mail address in the target.",
)
@click.option(
    "--create-users/--no-create-users",
    default=True,
    show_default=True,
    help="Make users of the authors that the target does not know. Label Studio takes no password for them.",
)
@click.option(
    "--title", default="", help="Title of the new project. By default the recorded one, where it is free."
)
@click.option("--bulk", is_flag=True, help="Faster by far; every annotation gets a new unique_id.")
@click.option("--again", is_flag=True, help="Make another project, though this moment was restored before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_context
@says_errors
def restore(
    ctx: click.Context,
    project: str,
    at: datetime | None,
    to: str | None,
    dry_run: bool,
    users_file: Path | None,
    create_users: bool,
    title: str,
    bulk: bool,
    again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Bring PROJECT back from the bucket into Label Studio, as a new project.

    PROJECT is a uid such as 3.1795312966, or an id or title that only one project in the bucket has. A worker does the
    work, so closing the terminal does not stop it; the same command again goes on with it. Exit code 1 where anything
    differs from the record at the end.
    """
    clients = clients_of(ctx)
    planned = restoring.plan(
        clients,
        restoring.find_uid(clients, project),
        at=at,
        to=to,
        title=title,
        users=_users(users_file),
        create_users=create_users,
        bulk=bulk,
        again=again,
    )
    if not as_json:
        for line in show_restore.plan_lines(planned):
            click.echo(line)
    if planned.stops:
        if as_json:
            print_json({"ok": False, "dry_run": dry_run, "plan": planned.to_json()})
        fail("nothing was changed: name these authors with --users FILE, or let --create-users make them")
    if dry_run:
        if as_json:
            print_json({"ok": True, "dry_run": True, "plan": planned.to_json()})
        return
    if not yes:
        if not sys.stdin.isatty():
            fail("nothing was changed: give --yes, since there is nobody to ask")
        click.confirm("Go on?", abort=True, err=True)
    order = restoring.begin(clients, planned)
    try:
        report = restoring.wait(
            clients, order, say=lambda line: None if as_json else click.echo(f"  {line}", err=True)
        )
    except KeyboardInterrupt:
        fail("the restore goes on in the background; the same command again waits for it")
    connected = _connect(clients, planned, report, quiet=as_json)
    if as_json:
        print_json(
            {"ok": report["ok"] and connected["ok"], "plan": planned.to_json(), "report": report} | connected
        )
    else:
        for line in show_restore.report_lines(report):
            click.echo(line)
    if not report["ok"]:
        fail(
            f"{report['difference_count']} differences, {report['left_out_count']} things not restored; all of it is in "
            f"restore/report.json of project {report['project']['uid']} in the bucket"
        )
    if not connected["ok"]:
        fail("the project is restored and not connected: mend that and run the same command again")


def _users(path: Path | None) -> dict[str, str]:
    try:
        return {} if path is None else read_users_file(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from None


def _connect(
    clients: Clients, planned: restoring.Plan, report: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    """Webhook, ML backend, storages and the baseline, with credentials from our own settings."""
    if planned.order.to != clients.settings.label_studio.url:
        if not quiet:
            click.echo(
                f"Not connected, since it is in another Label Studio: with LABEL_STUDIO_URL={planned.order.to}, run "
                f"`python -m sidecar connect {report['project']['id']}`"
            )
        return {"ok": True, "connected": []}
    try:
        found_project = project_by_id(clients.label_studio, int(report["project"]["id"]))
        want = wanted(clients.settings, found_project.id)
        found = gather(clients, found_project, want, check=True)
        steps: list[Step] = [
            *_storage_steps(clients, planned, found_project.id),
            *connect_steps(want, found, found_project),
        ]
    except BridgeError as error:
        if not quiet:
            click.echo(f"Not connected: {error}", err=True)
        return {"ok": False, "connected": []}
    outcomes = []
    for outcome in carry_out(steps, clients, found_project):
        outcomes.append(outcome)
        if not quiet:
            click.echo(show.outcome_lines(outcome))
    return {"ok": not failed(outcomes), "connected": [dataclasses.asdict(outcome) for outcome in outcomes]}


def _storage_steps(clients: Clients, planned: restoring.Plan, project_id: int) -> list[Step]:
    """The recorded storages other than the one that connecting registers: those on our bucket with our keys again; for
    others we have no credentials."""
    s3 = clients.settings.s3
    ours = wanted(clients.settings, project_id).storage
    there = {
        direction: list(clients.label_studio.get(path, project=project_id))
        for direction, path in (("import", "/api/storages/s3"), ("export", "/api/storages/export/s3"))
    }
    steps: list[Step] = []
    for one in planned.source.storages:
        direction, place = (
            str(one.get("direction")),
            (one.get("bucket"), (one.get("prefix") or "").strip("/")),
        )
        if direction == "import" and place == (ours["bucket"], ours["prefix"].strip("/")):
            continue
        words = restoring.storage_words(one)
        if one.get("type") != "s3" or one.get("bucket") != s3.bucket:
            steps.append(
                Note(
                    part=STORAGE,
                    text=f"{words}: not registered again, our settings have no keys to it; do it by hand",
                )
            )
            continue
        if any(
            (x.get("bucket"), (x.get("prefix") or "").strip("/")) == place for x in there.get(direction, [])
        ):
            continue
        kept_fields = (
            *(
                "title",
                "description",
                "bucket",
                "prefix",
                "regex_filter",
                "use_blob_urls",
                "presign",
                "presign_ttl",
            ),
            *("recursive_scan", "can_delete_objects"),
        )
        body = {name: one[name] for name in kept_fields if one.get(name) is not None}
        body |= {
            name: ours[name]
            for name in ("s3_endpoint", "region_name", "aws_access_key_id", "aws_secret_access_key")
        }
        path = "/api/storages/s3" if direction == "import" else "/api/storages/export/s3"
        steps.append(
            Call(
                part=STORAGE,
                text=f"register {words}",
                method="POST",
                path=path,
                body=body | {"project": project_id},
            )
        )
    return steps
