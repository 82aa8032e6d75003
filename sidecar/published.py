"""Publishing weights in the bucket. The file is put first, its manifest second, the pointer last: who dies between leaves
nothing that anybody reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bridge.errors import Corrupt, NotFound, SenderError
from bridge.keys import ModelKey, ModelsLayout
from bridge.published import MANIFEST, VERSION, Published, pointer, read_manifest, read_pointer
from bridge.store import ObjectStore

_FILE = "weights.pt"


class Shelf:
    """The versions below `root`. Raises what the store raises."""

    def __init__(
        self, store: ObjectStore, root: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._layout = ModelsLayout(root)
        self._now = now

    def publish(self, path: Path, name: str) -> tuple[Published, bool]:
        """The version, and whether it is new. Raises SenderError for a file that cannot be weights, OSError."""
        if path.suffix != ".pt":
            raise SenderError(f"{path.name} is no .pt file", hint="publish weights as ultralytics saves them")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        published = Published(
            name=name, file=_FILE, sha256=sha256, size_bytes=path.stat().st_size, published_at=self._now()
        )
        manifest = self._layout.model(ModelKey(version=published.version, name=MANIFEST))
        there = self._read(published.version)
        if there is not None:
            if there.sha256 != sha256:
                raise SenderError(
                    f"{published.version} is another file in the bucket already", hint="give another --name"
                )
            return there, False
        self._store.upload(self._layout.model(ModelKey(version=published.version, name=_FILE)), path)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise SenderError(f"{path.name} changed while it was published", hint="publish it again")
        self._store.put(manifest, published.manifest(), content_type="application/json")
        return published, True

    def versions(self) -> list[Published]:
        """Newest first; a manifest that cannot be read is passed over."""
        found = []
        for info in self._store.keys(self._layout.root):
            key = self._layout.parse_model(info.key)
            if key is not None and key.name == MANIFEST:
                try:
                    published = self._read(key.version)
                except Corrupt:
                    continue
                if published is not None:
                    found.append(published)
        return sorted(found, key=lambda one: one.published_at, reverse=True)

    def active(self) -> str | None:
        try:
            return read_pointer(self._store.get(self._layout.pointer), where=self._layout.pointer)
        except (NotFound, Corrupt):
            return None

    def activate(self, version: str) -> str | None:
        """The version that served before. Raises SenderError when there is no such version."""
        if not VERSION.fullmatch(version) or self._read(version) is None:
            known = ", ".join(one.version for one in self.versions()[:10])
            raise SenderError(
                f"no version {version!r} is published",
                hint=f"there are {known}" if known else "publish one first",
            )
        before = self.active()
        body = pointer(version, at=self._now())
        self._store.put(self._layout.pointer, body, content_type="application/json")
        return before

    def _read(self, version: str) -> Published | None:
        key = self._layout.model(ModelKey(version=version, name=MANIFEST))
        try:
            return read_manifest(self._store.get(key), where=key)
        except NotFound:
            return None
