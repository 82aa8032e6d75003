"""Whose annotations they are: recorded ids -> e-mail addresses -> people of the target. Pure.

A bare id can mean anybody in another Label Studio, so people are matched by e-mail address alone. An author who cannot
be named stops the restore: it never gives somebody's work to another.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import SenderError

NOBODY = "none"


@dataclass(frozen=True, kw_only=True)
class People:
    """`there`: recorded id (None: no author) -> id in the target. `create`: bodies for `POST /api/users/`, and for each
    address the recorded ids that wait for it. `unknown`: recorded ids that nobody can name, in words."""

    there: Mapping[int | None, int] = field(default_factory=dict)
    create: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: Mapping[str, list[int | None]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_users_file(text: str) -> dict[str, str]:
    """A JSON object, or lines `old,new`: e-mail address or id in the record (`none`: annotations without an author), then
    the e-mail address in the target. Raises SenderError."""
    if text.lstrip().startswith("{"):
        try:
            pairs = [(str(old), str(new)) for old, new in json.loads(text).items()]
        except ValueError as error:
            raise SenderError(f"the users file is no JSON: {error}") from error
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
        if rows and len(rows[0]) == 2 and "@" not in rows[0][1]:
            rows = rows[1:]  # a header
        for row in rows:
            if len(row) != 2:
                raise SenderError(
                    f"the users file has the line {','.join(row)!r}",
                    hint="each line is `old,new`, two e-mail addresses",
                )
        pairs = [(old, new) for old, new in rows]
    for old, new in pairs:
        if "@" not in new or not old:
            raise SenderError(
                f"the users file maps {old!r} to {new!r}",
                hint="the second is an e-mail address in the target",
            )
    return {_key(old): new.strip() for old, new in pairs}


def _key(address: str) -> str:
    return address.strip().casefold()


def resolve(
    authors: Iterable[int | None],
    recorded: Mapping[int, Mapping[str, Any]],
    mapping: Mapping[str, str],
    found: Iterable[Mapping[str, Any]],
    *,
    create: bool,
) -> People:
    """`found`: the target's users with `id` and `email`. A mapped address has to be there already, unless it may be created."""
    target = {_key(str(user["email"])): int(user["id"]) for user in found if user.get("email")}
    people = People(there={}, create={}, waiting={}, unknown=[])
    there, bodies, waiting = (
        dict[int | None, int](),
        dict[str, Mapping[str, Any]](),
        dict[str, list[int | None]](),
    )
    for author in authors:
        user = recorded.get(author, {}) if author is not None else {}
        address = _address(author, user, mapping)
        if not address:
            people.unknown.append(
                "annotations without an author (`none,ADDRESS` in the users file)"
                if author is None
                else f"user {author}, of whom the record has no e-mail address (`{author},ADDRESS` in the users file)"
            )
        elif _key(address) in target:
            there[author] = target[_key(address)]
        elif create:
            own = _key(str(user.get("email") or "")) == _key(address)
            names = {name: user.get(name) or "" for name in ("first_name", "last_name")} if own else {}
            username = (user.get("username") if own else "") or address.partition("@")[0]
            bodies[address] = {"email": address, "username": username, **names}
            waiting.setdefault(address, []).append(author)
        else:
            people.unknown.append(f"{address}, who is no user of the target")
    return People(there=there, create=bodies, waiting=waiting, unknown=people.unknown)


def _address(author: int | None, user: Mapping[str, Any], mapping: Mapping[str, str]) -> str:
    own = str(user.get("email") or "")
    by_id = mapping.get(NOBODY if author is None else str(author))
    return by_id or (mapping.get(_key(own), own) if own else "")


def refusal(people: People) -> SenderError:
    """What to say while somebody is unknown."""
    return SenderError(
        f"{len(people.unknown)} authors cannot be matched: {'; '.join(people.unknown[:20])}",
        hint="name them with --users FILE: lines `old,new`, e-mail address or id in the record, e-mail address in the "
        "target",
    )
