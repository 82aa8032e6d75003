"""`python -m sidecar …`: see sidecar/cli.py."""

from sidecar.cli import cli

if __name__ == "__main__":
    cli(prog_name="python -m sidecar")
