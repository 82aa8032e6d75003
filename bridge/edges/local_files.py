"""Files of this machine, as transfers see them: what is below a folder, their checksums, and their troubles in words."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from bridge.errors import SenderError
from bridge.transfer import PARTIAL, LocalFile, name_trouble

_BLOCK_BYTES = 1 << 20


def local_files(folder: Path) -> Iterator[LocalFile]:
    """Every file below a folder, in order of the names; what is no plain file says so. Our own partial downloads are
    left out. Raises SenderError when the folder itself cannot be read."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SenderError(f"the folder {str(folder)!r} cannot be read: {words(error)}") from None
    yield from _walk(folder, entries)


def _walk(root: Path, entries: Sequence[os.DirEntry[str]]) -> Iterator[LocalFile]:
    for entry in entries:
        path = Path(entry.path)
        if PARTIAL.fullmatch(entry.name):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield local_file(root, path)
            continue
        try:
            below = sorted(os.scandir(entry.path), key=lambda one: one.name)
        except OSError as error:
            yield LocalFile(name=_name(root, path), trouble=f"the folder cannot be read: {words(error)}")
            continue
        yield from _walk(root, below)


def found_below(target: Path, names: Iterable[str]) -> Iterator[LocalFile]:
    """What there is already of the files with these names."""
    for name in names:
        if not name_trouble(name) and os.path.lexists(target / name):
            yield local_file(target, target / name)


def md5_below(root: Path) -> Callable[[str], str]:
    """A file that cannot be read has the MD5 of nothing: moving it says why."""

    def md5_of(name: str) -> str:
        try:
            return md5_of_file(root / name)
        except OSError:
            return ""

    return md5_of


def local_file(root: Path, path: Path) -> LocalFile:
    name = _name(root, path)
    try:
        found = path.stat()
    except OSError as error:
        return LocalFile(name=name, trouble=words(error))
    if not stat.S_ISREG(found.st_mode):
        folder = "a link to a folder, which is not followed" if path.is_symlink() else "a folder"
        return LocalFile(name=name, trouble=folder if stat.S_ISDIR(found.st_mode) else "it is no plain file")
    return LocalFile(
        name=name,
        size_bytes=found.st_size,
        modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
    )


def _name(root: Path, path: Path) -> str:
    return PurePosixPath(path.relative_to(root)).as_posix()


def md5_of_file(path: Path) -> str:
    """The hex MD5 of a file, read in blocks."""
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def words(error: OSError) -> str:
    """An error of this machine, with what to do where that is not plain."""
    if isinstance(error, FileNotFoundError):
        return "it has vanished"
    if isinstance(error, PermissionError):
        return "this user may not read or write it"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a file is in the way where a folder must be: move it away"
    if isinstance(error, IsADirectoryError):
        return "a folder is in the way: move it away"
    return error.strerror or str(error)


def stay_inside(target: Path, path: Path) -> None:
    """Raises SenderError when a link inside the target folder leads out of it."""
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise SenderError("a link in the target folder leads out of it: remove the link")
