"""`archive`: look at a project's record in the bucket, and check it."""

from __future__ import annotations

import click


@click.group()
def archive() -> None:
    """The record of a project in the bucket: check it, look at it."""
