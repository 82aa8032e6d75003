"""HTTP's Basic password, compared in constant time. Pure."""

from __future__ import annotations

import base64
import contextlib
import hmac


def is_right(header: str, *, user: str, password: str) -> bool:
    """Whether an `Authorization` header gives this user and password; any other kind of header does not.

    User and password are always both compared."""
    told_user, _, told_password = _told(header).partition(b":")
    right = False
    # Label Studio sends Latin-1, as its client does (requests/auth.py), most others UTF-8.
    for encoding in ("utf-8", "latin-1"):
        with contextlib.suppress(UnicodeEncodeError):
            wanted_user, wanted_password = user.encode(encoding), password.encode(encoding)
            right |= hmac.compare_digest(told_user, wanted_user) & hmac.compare_digest(
                told_password, wanted_password
            )
    return right


def _told(header: str) -> bytes:
    scheme, _, coded = header.partition(" ")
    try:
        return base64.b64decode(coded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        return b""
