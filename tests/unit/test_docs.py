"""The README names every setting as it is, and every job's name leads to a function."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bridge import jobs
from bridge.settings import LabelStudioSettings, S3Settings, SidecarSettings, all_settings
from sidecar.app import create_app
from stack.settings import StackSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def table_rows() -> dict[str, list[str]]:
    rows = {}
    for line in README.splitlines():
        if found := re.match(r"\| `([A-Z0-9_]+)` \|", line):
            rows[found[1]] = [
                cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))
            ]
    return rows


def test_the_readme_has_every_setting_with_its_default_and_programs() -> None:
    rows = table_rows()
    for doc in all_settings():
        assert doc.env in rows, f"{doc.env} is not in the README's table"
        _, default, programs, _ = rows[doc.env]
        expected = "required" if doc.default is None else (f"`{doc.default}`" if doc.default else "–")
        assert default == expected, doc.env
        assert programs == ", ".join(doc.programs), doc.env


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    ours = {doc.env for doc in all_settings()} | {field.metadata["env"] for field in fields(StackSettings)}
    assert set(table_rows()) <= ours


@pytest.mark.parametrize(
    "job",
    [
        jobs.drain("1.2"),
        jobs.baseline("1.2", "test"),
        jobs.reconcile("1.2", "full"),
        jobs.new_projects(),
        jobs.media("1.2", []),
        jobs.current("1.2"),
        jobs.metrics("1.2"),
        jobs.export("1.2", "JSON", "annotated", "a key"),
        jobs.export_trigger("1.2", "test"),
        jobs.prelabel("1.2", "1.2-000000000000"),
        jobs.prelabel_chunk("1.2", "1.2-000000000000", "1", 5),
        jobs.prelabel_finish("1.2", "1.2-000000000000"),
        jobs.prelabel_wanted("1.2"),
        jobs.restore("1.2", "0123456789abcdef"),
    ],
)
def test_every_job_is_on_a_known_queue_and_its_name_leads_to_a_function(job: jobs.Job) -> None:
    module, _, function = job.name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))
    assert job.queue in jobs.QUEUES


def test_the_readme_names_every_route_of_the_sidecar(tmp_path: Path) -> None:
    settings = SidecarSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=S3Settings(
            endpoint_url="http://127.0.0.1:9", access_key_id="key", secret_access_key="key", bucket="labels"
        ),
        redis_url="redis://127.0.0.1:9/0",
        webhook_secret="a-secret-of-the-tests",
        api_token="a-token-of-the-tests",
        spool_dir=str(tmp_path),
    )
    for rule in create_app(settings).url_map.iter_rules():
        if rule.endpoint != "static":
            path = re.sub(r"<(?:int:)?(?:project_|export_)?(\w+)>", r"{\1}", rule.rule)
            assert path in README, path


def test_the_two_commands_come_first_in_the_readme() -> None:
    start = README[: README.index("## ")]
    assert "make run" in start
    assert "make test" in start


def test_the_readmes_pictures_are_there_and_small() -> None:
    pictures = re.findall(r'<img src="([^"]+)" width="\d+" alt="[^"]+">', README)
    assert len(pictures) == README.count("<img ") >= 9
    for picture in pictures:
        assert (ROOT / picture).stat().st_size <= 80_000, picture
