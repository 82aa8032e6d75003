"""Which CORTX is stood in for. What each rule does in each profile is written at the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, kw_only=True)
class Profile:
    """`s3server`: cortx-s3server of any age; otherwise CORTX-RGW. `old`: with the multipart limits of its documentation."""

    name: str
    s3server: bool
    old: bool = False


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="s3server-doc", s3server=True, old=True),
        Profile(name="s3server-head", s3server=True),
        Profile(name="rgw-motr", s3server=False),
    )
}
STRICTEST = "s3server-doc"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who a key belongs to. A read-only key may GET and HEAD, as a bucket policy would have it."""

    secret: str = field(repr=False)
    owner: str = "operator"
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a server is told besides its profile.

    `tripwire`: a call that CORTX would misread is answered 599 and written down, instead of being misread.
    `list_v2`: no for builds of cortx-s3server that answer a second-version listing as a first-version one.
    `max_bytes`: the largest single put, and the largest object that is copied.
    `overwrite_gap_s`: rgw-motr: how long a replaced key is not there.
    """

    tripwire: bool = True
    list_v2: bool = True
    max_bytes: int = 5 * GIB
    overwrite_gap_s: float = 0.02
