"""`python -m cortx_emulation --port 9532`: an S3 server in memory that is as hard to please as CORTX."""

from __future__ import annotations

import os
import signal
import sys

import click

from cortx_emulation.app import create_app
from cortx_emulation.faults import Faults
from cortx_emulation.profiles import PROFILES, STRICTEST, Account, Options
from cortx_emulation.server import make_server


def _faults(context: click.Context, option: click.Parameter, value: str | None) -> Faults:
    try:
        return Faults.parsed(value) if value else Faults()
    except ValueError as error:
        raise click.BadParameter(f"as seed:rate, such as 7:0.05 ({error})") from None


def _pair(value: str) -> tuple[str, str]:
    access_key, found, secret = value.partition(":")
    if not found:
        raise click.BadParameter("as ACCESS-KEY:SECRET-KEY")
    return access_key, secret


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--profile", type=click.Choice(list(PROFILES)), default=STRICTEST, show_default=True)
@click.option(
    "--access-key", help="Or AWS_ACCESS_KEY_ID in the environment, which no list of processes shows."
)
@click.option("--secret-key", help="Or AWS_SECRET_ACCESS_KEY in the environment.")
@click.option("--read-only-key", multiple=True, help="ACCESS:SECRET of the same owner, for reading only.")
@click.option("--stranger-key", multiple=True, help="ACCESS:SECRET of another owner.")
@click.option("--faults", callback=_faults, metavar="SEED:RATE", help="Faults by chance, such as 7:0.05.")
@click.option("--tripwire/--no-tripwire", default=True, help="Answer 599 to a call that CORTX would misread.")
@click.option("--list-v2/--no-list-v2", default=True, help="No: as builds that only know the first listing.")
@click.option(
    "--overwrite-gap", default=0.02, help="rgw-motr: seconds for which a replaced key is not there."
)
@click.option("--tls-cert", type=click.Path(exists=True), help="Speak HTTPS, with this certificate.")
@click.option("--tls-key", type=click.Path(exists=True))
def main(
    host: str,
    port: int,
    profile: str,
    access_key: str | None,
    secret_key: str | None,
    read_only_key: tuple[str, ...],
    stranger_key: tuple[str, ...],
    faults: Faults,
    tripwire: bool,
    list_v2: bool,
    overwrite_gap: float,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    access_key = access_key or os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = secret_key or os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise click.UsageError("give --access-key and --secret-key: without a key nobody gets in")
    keys = {access_key: Account(secret=secret_key)}
    keys |= {key: Account(secret=secret, read_only=True) for key, secret in map(_pair, read_only_key)}
    keys |= {key: Account(secret=secret, owner=key) for key, secret in map(_pair, stranger_key)}
    app = create_app(
        PROFILES[profile],
        keys,
        options=Options(tripwire=tripwire, list_v2=list_v2, overwrite_gap_s=overwrite_gap),
        faults=faults,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    make_server(app, host, port, tls=tls).serve_forever()


if __name__ == "__main__":
    main()
