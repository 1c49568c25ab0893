"""Files: replaced in one step or not at all, locked, read and written as JSON, told apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import filelock

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
REFUSED = (
    *FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EFBIG, errno.EIO
)  # fmt: skip
SEAL = "digest"  # of a mapping in a JSON file: its entry with the digest of all others


class InUse(OSError):
    """Another process holds a lock."""


# Replacing


@contextmanager
def replacing_by(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path`; the file under it takes its place in one step, or leaves no trace.

    The file is on the disk before it gets its name, so that even a power cut leaves one of the two.
    A process that is killed leaves a hidden file, see `clear`.
    """
    temporary = _beside(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename is not None or str(path) in str(error):
            raise
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
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

    A folder cannot replace another in one step: the one before is moved aside.
    """
    path = Path(path).resolve()  # where a link leads to, not the link
    temporary, old = _beside(path), _beside(path)
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


def clear(folder: Path) -> None:
    """Remove what processes that were killed left in a folder that only this one writes to."""
    for left in folder.glob(".*.tmp"):
        left.unlink()


def _beside(path: str | Path) -> Path:
    """Return a hidden name in the same folder that nobody else has."""
    return Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex[:8]}.tmp")


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
        remedy: what to do where it cannot be had, for example "choose another folder".
        wait: for the process that holds it, with a warning that says so.
        again: let this process take it several times; it is free when each has given it back.

    Raises:
        InUse: another process holds it, and `wait` is False.
    """
    held = filelock.FileLock(path, timeout=0, is_singleton=again, thread_local=not again)
    told = f"{path}: another process works here, or this file system knows no locks"
    try:
        held.acquire()
    except filelock.Timeout:
        if not wait:
            raise InUse(f"{told}. Wait until the other one has ended, or {remedy}.") from None
        warnings.warn(f"{told}; waiting. To go on at once, {remedy}.", stacklevel=3)
        held.acquire(timeout=-1)
    try:
        yield
    finally:
        held.release()


# JSON and digests


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds; a damaged one is a ValueError."""
    # A path in it may hold bytes that are no text; they are kept as they are.
    return json.loads(Path(path).read_text("utf-8", "surrogateescape"))


def write_json(path: str | Path, found: Any) -> None:
    """Write what JSON can hold in place of the file before, in one step."""
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def sealed(found: Mapping) -> dict:
    """Return what JSON makes of a mapping, with a digest of all of it: `unsealed` checks it."""
    found = json.loads(json.dumps(dict(found)))
    return {**found, SEAL: digest(json.dumps(found, sort_keys=True).encode())}


def unsealed(found: Mapping) -> dict:
    """Return a sealed mapping without its seal; a ValueError if it is not what was sealed."""
    if not isinstance(found, Mapping):
        raise ValueError("it holds no mapping")
    found = dict(found)
    if found.pop(SEAL, None) != sealed(found)[SEAL]:
        raise ValueError("it was changed after it was written")
    return found


def digest(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, as 64 hexadecimal digits."""
    if not isinstance(content, Path):
        return hashlib.sha256(content).hexdigest()
    found = hashlib.sha256()
    with open(content, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
