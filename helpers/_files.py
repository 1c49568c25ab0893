"""Files: replaced in one step or not at all, locked, read and written as JSON, told apart."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import filelock

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
REFUSED = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class InUse(OSError):
    """Another process holds a lock."""


# Replacing


@contextmanager
def replacing_by(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path`; the file under it takes its place in one step, or leaves no trace.

    The file is on the disk before it gets its name, so that even a power cut leaves one of the two.
    """
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` in one step, as with `replacing_by`."""
    with replacing_by(path) as temporary, open(temporary, "wb") as file:
        yield file


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder beside `path` that takes its place at the end, or leaves no trace.

    What a process that was killed has left of an earlier try is cleared first. A folder cannot
    replace another in one step: the one before is moved aside, and moved back if the process dies
    in between, by the next call.
    """
    path = Path(path)
    recover_folder(path)
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary, old, mark = (path.with_name(name + end) for end in (".tmp", ".old", ".lock"))
    with ExitStack() as stack:
        stack.callback(mark.unlink, missing_ok=True)
        # The lock only says that this process is alive. Where there are none, nobody clears.
        with suppress(OSError):
            stack.enter_context(lock(mark, "", wait=False))
        try:
            temporary.mkdir()
            yield temporary
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
        finally:
            for left in (temporary, old):
                shutil.rmtree(left, ignore_errors=True)


def recover_folder(path: str | Path) -> None:
    """Clear what killed processes left of `replacing_folder`; bring a folder moved aside back."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        mark = left.with_suffix(".lock")
        if left.suffix not in (".tmp", ".old") or not left.is_dir():
            continue
        with suppress(OSError), lock(mark, "", wait=False):
            if left.suffix == ".old" and not path.exists():
                os.replace(left, path)
            shutil.rmtree(left, ignore_errors=True)
            mark.unlink(missing_ok=True)


def _beside(path: str | Path, ending: str) -> Path:
    """Return a hidden name in the same folder that nobody else has."""
    return Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex[:8]}.{ending}")


def sync(path: Path) -> None:
    """Return when a file is on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(folder: str | Path, remedy: str) -> Iterator[None]:
    """Say what to do where the disk is full or the system refuses to write to a folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        full = error.errno in FULL
        found = "the disk is full" if full else f"it cannot be written ({error.strerror})"
        raise OSError(
            error.errno,
            f"{folder}: {found}. Nothing that was complete is lost; "
            f"{'free some space, or ' if full else ''}{remedy}, and run the same again",
        ) from error


# Locking


@contextmanager
def lock(
    path: str | Path, remedy: str, *, wait: bool = True, again: bool = False
) -> Iterator[None]:
    """Hold a file for one process, or one thread, at a time; the lock ends with its process.

    Args:
        path: of an empty file that is made and kept.
        remedy: what to do where the file system knows no locks, or where another process holds
            it, for example "choose another folder".
        wait: for the process that holds it, with a warning that says so.
        again: let this process take it several times; it is free when each has given it back.

    Raises:
        InUse: another process holds it, and `wait` is False.
        OSError: locks do not work in this folder.
    """
    path = Path(path)
    held = filelock.FileLock(path, timeout=0, is_singleton=again, thread_local=not again)
    try:
        held.acquire()
    except (OSError, NotImplementedError) as error:
        # Some systems say "held by another" where they mean "I cannot lock".
        _try_locks(path.parent, remedy)
        if not isinstance(error, filelock.Timeout):
            raise
        if not wait:
            raise InUse(
                f"{path.parent}: another process works in this folder. Wait until it has ended, "
                f"or {remedy}."
            ) from None
        warnings.warn(f"Another process works on {path}; waiting.", stacklevel=3)
        held.acquire(timeout=-1)
    try:
        yield
    finally:
        held.release()


def _try_locks(folder: Path, remedy: str) -> None:
    """Lock a fresh file, which nobody else can hold."""
    fresh = _beside(folder / "try", "lock")
    try:
        with filelock.FileLock(fresh, timeout=0):
            pass
    except (OSError, NotImplementedError) as error:
        if not fresh.exists():
            raise
        raise OSError(
            f"{folder}: files cannot be locked on this file system ({error}), so two processes "
            f"could spoil each other's work; {remedy}."
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


# JSON and digests


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8", "surrogateescape"))
    except RecursionError as error:
        raise ValueError(f"{path}: damaged JSON ({error})") from error


def write_json(path: str | Path, found: Any) -> None:
    """Write what JSON can hold in place of the file before, in one step.

    Raises:
        TypeError: JSON cannot hold it.
        OSError: the folder cannot be written.
    """
    with replacing(path) as file:
        text = json.dumps(found, indent=2, ensure_ascii=False)
        # A path may hold bytes that are no text; they are written as they are.
        file.write(text.encode("utf-8", "surrogateescape") + b"\n")


def digest(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, as 64 hexadecimal digits."""
    if not isinstance(content, Path):
        return hashlib.sha256(content).hexdigest()
    found = hashlib.sha256()
    with open(content, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
