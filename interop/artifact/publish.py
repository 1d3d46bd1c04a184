"""Atomic replacement: a complete new artifact takes the place of the old one in a single step, or not at all.

What enters: the path to write. What leaves: a hidden sibling to write into (`Staging`), and `publish`,
which makes it the artifact. A process killed at any moment leaves the old artifact or the new one.

Invariants:

- nothing is ever written into a file that exists: a session may have it mapped;
- everything is on disk (fsync of files, then of folders) before it becomes visible;
- only an empty folder, an empty file, or an artifact without foreign entries is replaced, and what is
  removed is removed by name, never as a tree;
- a staging sibling is locked while its writer lives; the next save removes those of dead writers;
- modes are those of any new file: 0666 and 0777 less the umask.

Where the file system cannot exchange two folders in one step, the old one is renamed to a fixed sibling
first; `files.existing` finds it there if the process died between the two renames.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from interop.artifact import archive
from interop.artifact.files import CONFIG, NAMES, ZIP_SUFFIX, is_zip, predecessor_of, stem
from interop.errors import ArtifactError

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_CONFIG_PEEK_BYTES = 64 << 20


@dataclass
class Staging:
    """A hidden sibling of the target: `path` is an empty folder, or an empty file open for writing.

    `descriptor` is open on it, and locked.
    """

    target: Path
    path: Path
    descriptor: int
    replaces: bool

    def publish(self) -> None:
        """Make it the artifact. Its files must be complete and synced.

        Raises:
            FileExistsError: something foreign turned up in the target; it is as it was.
            OSError: the file system refused; the target is as it was.
        """
        os.fsync(self.descriptor)
        if stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            if self.replaces:
                os.replace(self.path, self.target)
            else:
                _rename_new(self.path, self.target)
        elif self.replaces and os.listdir(self.target):
            self._exchange()
        else:
            _rename_new(self.path, self.target)
        _sync_folder(self.target.parent)
        self._discard()

    def _exchange(self) -> None:
        """Swap the staged folder and the target; the old artifact ends where the staged one was."""
        try:
            rename_exchange(self.path, self.target)
        except OSError as e:
            if e.errno not in _UNSUPPORTED:
                raise
            self._swap_by_renames()
            return
        try:
            _check_folder(self.path, self.target)
        except FileExistsError:
            rename_exchange(self.path, self.target)
            raise

    def _swap_by_renames(self) -> None:
        """Swap where no exchange exists: `files.existing` finds the old artifact if we die in between."""
        predecessor = predecessor_of(self.target)
        os.rename(self.target, predecessor)
        try:
            _check_folder(predecessor, self.target)
            _sync_folder(self.target.parent)
            os.rename(self.path, self.target)
        except BaseException:
            os.rename(predecessor, self.target)
            raise
        _sync_folder(self.target.parent)
        _remove(predecessor)

    def _discard(self) -> None:
        """Remove what is left at the staging path: an unpublished attempt, or the replaced artifact."""
        if os.path.lexists(self.path):
            _remove(self.path)


@contextmanager
def stage(path: Path, *, overwrite: bool) -> Iterator[Staging]:
    """Prepare to write the artifact at `path`; what was not published is removed on the way out.

    Raises:
        FileExistsError: `overwrite` is false and something exists, or what exists is not ours to replace.
        FileNotFoundError: the parent folder does not exist.
    """
    target = Path(os.path.realpath(path))
    _recover(target)
    replaces = os.path.lexists(target)
    if replaces and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "an artifact exists; pass overwrite=True to replace it", str(path)
        )
    if replaces:
        check_replaceable(target)
        _check_not_here(target)
    with _staging(target, replaces, as_file=is_zip(target)) as staging:
        yield staging


@contextmanager
def stage_file(path: Path) -> Iterator[Staging]:
    """Prepare to write one file that is no artifact; it replaces whatever regular file is at `path`.

    Raises:
        FileExistsError: a folder or something else that is no regular file is there.
        FileNotFoundError: the parent folder does not exist.
    """
    target = Path(os.path.realpath(path))
    replaces = os.path.lexists(target)
    if replaces and not stat.S_ISREG(os.lstat(target).st_mode):
        raise FileExistsError(errno.EEXIST, "no regular file, so it is not replaced", str(path))
    with _staging(target, replaces, as_file=True) as staging:
        yield staging


@contextmanager
def _staging(target: Path, replaces: bool, *, as_file: bool) -> Iterator[Staging]:
    check_parent(target)
    _remove_abandoned(target)
    staging = _create(target, replaces, as_file=as_file)
    try:
        yield staging
    finally:
        with suppress(OSError):  # what cannot be removed does no harm, and must not hide the first error
            staging._discard()
        os.close(staging.descriptor)


def check_parent(target: Path) -> None:
    """Raise FileNotFoundError unless the folder that `target` is to be written in exists."""
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "no such folder to write in; make it first, or correct the path", str(target.parent)
        )


def check_replaceable(target: Path) -> None:
    """Raise FileExistsError, listing what is foreign, unless `target` may be replaced by a save."""
    if is_zip(target):
        _check_zip(target)
    else:
        _check_folder(target, target)


def _check_not_here(target: Path) -> None:
    """A folder is replaced as a whole: a process inside would be left in one that is gone."""
    with suppress(FileNotFoundError):  # this process is in a folder that is gone already
        if os.path.samestat(os.stat(target), os.stat(os.curdir)):
            raise FileExistsError(
                errno.EEXIST,
                "it is the current folder, which a save replaces as a whole; save from outside of it",
                str(target),
            )


def rename_exchange(a: Path, b: Path) -> None:
    """Swap two paths in one atomic step.

    Raises:
        OSError: with ENOSYS, EINVAL or ENOTSUP where kernel or file system cannot.
    """
    _renameat2(a, b, _RENAME_EXCHANGE)


def _check_folder(folder: Path, shown: Path) -> None:
    """Raise unless `folder` is empty or an artifact without foreign entries; `shown` is its public name."""
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise FileExistsError(
            errno.EEXIST,
            f"a file is in the way; a path that does not end in {ZIP_SUFFIX} is a folder",
            str(shown),
        )
    with os.scandir(folder) as found:
        entries = {entry.name: entry.is_file(follow_symlinks=False) for entry in found}
    foreign = sorted(name for name, regular in entries.items() if name not in NAMES or not regular)
    if not foreign and entries and not _is_config(folder / CONFIG):
        foreign = sorted(entries)
    if foreign:
        listed = ", ".join(foreign[:20]) + (f" and {len(foreign) - 20} more" if len(foreign) > 20 else "")
        raise FileExistsError(
            errno.EEXIST, f"the folder holds what no save made, so it is not replaced: {listed}", str(shown)
        )


def _check_zip(target: Path) -> None:
    """Raise unless `target` is an empty file or a zip with the entries of an artifact."""
    if not stat.S_ISREG(os.lstat(target).st_mode):
        raise FileExistsError(
            errno.EEXIST, f"no regular file; a path ending in {ZIP_SUFFIX} is a zip", str(target)
        )
    descriptor = os.open(target, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size == 0:
            return
        entries = archive.read_directory(descriptor)
    except ArtifactError as e:
        raise FileExistsError(
            errno.EEXIST,
            f"the file is no artifact, so it is not replaced ({e}); delete it first",
            str(target),
        ) from e
    finally:
        os.close(descriptor)
    foreign = sorted(set(entries) - set(NAMES)) or ([] if CONFIG in entries else sorted(entries))
    if foreign:
        raise FileExistsError(
            errno.EEXIST,
            f"the zip holds what no save made, so it is not replaced: {', '.join(foreign)}",
            str(target),
        )


def _is_config(path: Path) -> bool:
    """Whether a file is an artifact's config.json (other projects use the name too)."""
    try:
        if path.stat().st_size > _CONFIG_PEEK_BYTES:
            return False
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("format") == "interop"


def _create(target: Path, replaces: bool, *, as_file: bool) -> Staging:
    """Make and lock the staging sibling."""
    while True:
        path = target.parent / f".{stem(target)}.interop-new-{secrets.token_hex(4)}"
        if as_file:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        else:
            os.mkdir(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks: then nobody can lock it, or remove it, either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, descriptor):
            return Staging(target, path, descriptor, replaces)
        os.close(descriptor)  # another save took it for abandoned before it was locked


def _remove_abandoned(target: Path) -> None:
    """Remove the staging siblings of writers that died; a living writer holds the lock of its own."""
    prefix = f".{stem(target)}.interop-new-"
    for name in os.listdir(target.parent):
        if not name.startswith(prefix):
            continue
        path = target.parent / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone, or not ours to open
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                _remove(path)
        except OSError:
            continue  # its writer lives, or it cannot be removed: it does no harm
        finally:
            os.close(descriptor)


def _recover(target: Path) -> None:
    """Finish what a save that died while swapping folders began."""
    predecessor = predecessor_of(target)
    if not os.path.lexists(predecessor):
        return
    if os.path.lexists(target):
        _remove(predecessor)
    else:
        os.rename(predecessor, target)
        _sync_folder(target.parent)


def _remove(path: Path) -> None:
    """Remove a staged or replaced artifact: a file, or a folder with the files of an artifact only."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    for name in NAMES:
        with suppress(FileNotFoundError):
            os.unlink(path / name)
    os.rmdir(path)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _rename_new(source: Path, target: Path) -> None:
    """Rename onto nothing (or an empty folder); what appeared meanwhile is not replaced."""
    if not os.path.lexists(target):
        try:
            _renameat2(source, target, _RENAME_NOREPLACE)
            return
        except OSError as e:
            if e.errno not in _UNSUPPORTED:
                raise
    if not target.is_dir() and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "it appeared while the artifact was being written", str(target))
    os.rename(source, target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _renameat2(a: Path, b: Path, flags: int) -> None:
    """The system call that Python does not have; ENOSYS where the C library lacks it."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), ctypes.c_uint(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(a), None, str(b))
