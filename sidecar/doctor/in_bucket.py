"""The bucket: what the record needs of it, then what it can do beyond CORTX (nothing of ours relies on that).

Every object written lies below `{BUCKET_PREFIX}/doctor/` and is deleted at the end.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, Corrupt, NotFound
from bridge.settings import MIB
from sidecar.clients import Clients
from sidecar.doctor.checks import Area, Check

if TYPE_CHECKING:
    from bridge.edges.s3_probe import Probe

SKEW_REFUSED_S, SKEW_S = 900, 60  # S3 refuses 15 minutes (RequestTimeTooSkewed)
_WHOLE = (MIB,)  # a multiple of 1 MiB even alone: old cortx-s3server demands it
_THOROUGH = (5 * MIB, MIB)  # 5 MiB is the least for a part that is not the last
_POLICY = "let the key's policy allow it: read, write, list and delete in this bucket"
_STORE = "look into the store's log; docs/cortx.md says what we need of it"


def check_bucket(
    clients: Clients, probe: Probe, *, thorough: bool, now: Callable[[], datetime]
) -> list[Check]:
    area, s3 = Area("bucket"), clients.settings.s3
    before = now()
    area.checks.extend(judge_clock(probe.date(), before, now()))
    try:
        clients.check_bucket()
    except BridgeError as error:
        if isinstance(error, NotFound):
            area.fail(
                "opens",
                f"there is no bucket {s3.bucket} at {s3.endpoint_url}",
                f"`python -m sidecar bucket create {s3.bucket}`, or correct BUCKET",
            )
        else:
            area.failed("opens", error, "check AWS_ENDPOINT_URL_S3 and the keys")
        return area.checks
    area.ok("opens", f"{s3.bucket} at {s3.endpoint_url}")
    folder = f"{s3.bucket_prefix}/doctor/" if s3.bucket_prefix else "doctor/"
    folder = f"{folder}{secrets.token_hex(8)}/"
    if _round_trip(area, clients, f"{folder}round trip +%ü.txt"):
        _multipart(area, probe, f"{folder}multipart", _THOROUGH if thorough else _WHOLE)
        _beyond(area, probe, clients, f"{folder}beyond")
    _clean_up(area, clients, folder)
    return area.checks


def judge_clock(theirs: datetime | None, before: datetime, after: datetime) -> list[Check]:
    """From the store's Date and our clock before and after asking for it."""
    area = Area("bucket")
    if theirs is None:
        area.info("clock", "the store does not tell its time")
        return area.checks
    skew_s = (before + (after - before) / 2 - theirs).total_seconds()
    text = f"ours is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the store's"
    remedy = "set this machine's clock (NTP), or the store's"
    if abs(skew_s) >= SKEW_REFUSED_S:
        area.fail("clock", f"{text}: it refuses requests from 900 s on", remedy)
    elif abs(skew_s) >= SKEW_S:
        area.warn("clock", text, remedy)
    else:
        area.ok("clock", "agrees with the store's")
    return area.checks


@contextmanager
def _step(area: Area, name: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except BridgeError as error:
        area.failed(name, error, remedy)


def _round_trip(area: Area, clients: Clients, key: str) -> bool:
    """Write, read back, list; whether it could be written."""
    store, body = clients.store, secrets.token_bytes(2000)
    with _step(area, "write", _POLICY):
        store.put(key, body)
        area.ok("write", "2 kB, with a space, +, % and ü in the key")
    if area.checks[-1].result == "fail":
        return False
    with _step(area, "read", _POLICY):
        if store.get(key) != body:
            raise Corrupt("what came back is not what was written", hint=_STORE)
        info = store.head(key)
        if info is None or info.size_bytes != len(body):
            raise Corrupt("HEAD does not show what was written", hint=_STORE)
        area.ok("read", "the same bytes came back")
    with _step(area, "list", _POLICY):
        found = [one.key for one in store.keys(key.rpartition("/")[0] + "/")]
        if found != [key]:
            raise Corrupt("the listing does not show what was just written", hint=_STORE)
        area.ok("list", "shows it")
    return True


def _multipart(area: Area, probe: Probe, key: str, parts: tuple[int, ...]) -> None:
    with _step(area, "multipart", "files over 64 MiB go in parts: " + _POLICY):
        if probe.multipart(key, parts) != sum(parts):
            raise Corrupt("the object has another size than its parts", hint=_STORE)
        area.ok("multipart", f"{len(parts)} part{'s' if len(parts) > 1 else ' (--thorough sends two)'}")


def _beyond(area: Area, probe: Probe, clients: Clients, key: str) -> None:
    """What the store offers beyond CORTX. Nothing here fails: CORTX has none of it, and we need none of it."""
    origin = clients.settings.label_studio.url
    try:
        keeps_versions = probe.versions(key)
        kept = probe.keeps_if_none_match(key)
        works, forged, readable = probe.presigned(key, origin)
    except BridgeError as error:
        area.info("beyond CORTX", f"could not be asked: {error}")
        return
    area.info("versioning", "on in this bucket" if keeps_versions else "off, or not offered")
    words = {True: "enforced", False: "ignored: it overwrites", None: "refused"}
    area.info("conditional writes", words[kept])
    if forged:
        area.warn(
            "presigning",
            "an address with a forged signature is answered: the store checks no signatures, or the bucket is public",
            "see that strangers cannot read the bucket (its policy); a test server such as moto never checks",
        )
    else:
        area.info("presigning", "works" if works else "not offered; pictures go through Label Studio")
    area.info(
        "CORS", f"pages of {origin} may {'' if works and readable else 'not '}read the bucket themselves"
    )


def _clean_up(area: Area, clients: Clients, folder: str) -> None:
    with _step(area, "delete", _POLICY):
        left = [info.key for info in clients.store.keys(folder)]
        for key in left:
            with contextlib.suppress(NotFound):
                clients.store.delete(key)
        left = [info.key for info in clients.store.keys(folder)]
        if left:
            area.fail("delete", f"{len(left)} objects below {folder} are still there", _POLICY)
        else:
            area.ok("delete", "nothing of this is left")
