"""The import storage: the pictures in the bucket that become tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.plan import MISSING, OK, STORAGE, Call, Fine, Found, Json, Note, Step, Wanted


def ours(want: Wanted, found: Found) -> list[Json]:
    """Those on our bucket and prefix, then those with our title (someone changed where they point)."""

    def place(storage: Mapping[str, Any]) -> tuple[str, str]:
        return storage.get("bucket") or "", (storage.get("prefix") or "").strip("/")

    here = [s for s in found.storages if place(s) == place(want.storage)]
    return here or [s for s in found.storages if s.get("title") == want.storage["title"]]


def drift_of(want: Wanted, storage: Mapping[str, Any]) -> list[str]:
    """Which readable settings are not as wanted; the keys are not readable."""
    names = {
        "bucket": "bucket",
        "prefix": "prefix",
        "regex_filter": "regular expression",
        "use_blob_urls": "treats files as tasks",
        "presign": "presigned addresses",
        "recursive_scan": "folders",
        "s3_endpoint": "endpoint",
        "region_name": "region",
    }
    return [said for name, said in names.items() if storage.get(name) != want.storage[name]]


def connect(want: Wanted, found: Found) -> list[Step]:
    mine = ours(want, found)
    prefix = f"{want.storage['prefix']}/"
    if want.record_root.startswith(prefix):
        return [
            Note(
                part=STORAGE,
                text=f"not registered: the record itself lies under STORAGE_PREFIX {prefix!r} and would become tasks",
            )
        ]
    if found.has_pictures is False:
        return [
            Note(
                part=STORAGE,
                text=f"{'left as it is' if mine else 'not registered'}: there is nothing under {want.pictures}/ and "
                "Label Studio refuses an empty place; put pictures there and connect again",
            )
        ]
    if not mine:
        return [
            Call(
                part=STORAGE,
                text=f"register {want.pictures}",
                method="POST",
                path="/api/storages/s3",
                body=want.storage,
            )
        ]
    first, *others = mine
    why = drift_of(want, first) or ([found.storage_trouble] if found.storage_trouble else [])
    steps: list[Step] = []
    if why:
        steps.append(
            Call(
                part=STORAGE,
                text=f"repair {want.pictures} ({', '.join(why)})",
                method="PATCH",
                path=f"/api/storages/s3/{first['id']}",
                # With the bucket in it, so that Label Studio checks it; and with the keys, which it does not show.
                body={
                    name: value for name, value in want.storage.items() if name not in ("project", "title")
                },
            )
        )
    else:
        steps.append(Fine(part=STORAGE, text=want.pictures))
    steps += [
        Note(
            part=STORAGE,
            text=f"import storage {other['id']} reads the same place: syncing both makes every task twice; remove one "
            "under Settings > Cloud Storage",
        )
        for other in others
    ]
    return steps


def was_synced(storage: Mapping[str, Any]) -> bool:
    """Whether tasks may have come from it: then removing it stops their pictures and forgets which files are in."""
    return bool(storage.get("last_sync")) or storage.get("status") not in ("initialized", None)


def disconnect(want: Wanted, found: Found, remove: bool) -> list[Step]:
    steps: list[Step] = []
    for storage in ours(want, found):
        if was_synced(storage) and not remove:
            steps.append(
                Note(
                    part=STORAGE,
                    text=f"import storage {storage['id']} stays: without it the pictures of its tasks do not load, and "
                    "a new one would make every task a second time; --remove-storage removes it all the same",
                )
            )
        else:
            steps.append(
                Call(
                    part=STORAGE,
                    text=f"remove import storage {storage['id']} ({want.pictures}); its tasks stay",
                    method="DELETE",
                    path=f"/api/storages/s3/{storage['id']}",
                )
            )
    return steps or [Fine(part=STORAGE, text="none is registered")]


def word(want: Wanted, found: Found) -> str:
    if STORAGE in found.trouble:
        return f"unknown: {found.trouble[STORAGE]}"
    mine = ours(want, found)
    if not mine:
        return MISSING
    if drift := drift_of(want, mine[0]):
        return f"drifted: {', '.join(drift)}"
    if mine[0].get("status") == "failed":
        return "drifted: the last sync failed"
    return OK
