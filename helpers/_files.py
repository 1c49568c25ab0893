"""Files: replaced in one step or not at all, locked, read and written as JSON, told apart."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import psutil

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
REFUSED = (
    *FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EFBIG, errno.EIO
)  # fmt: skip
# A name of `_beside`: what it is for, on which computer, by which process, since when.
LEFT = re.compile(r"\.(.+)\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.(tmp|old)")
SEAL = "digest"  # of a mapping in a JSON file: its entry with the digest of all others


class InUse(OSError):
    """Another process holds a lock."""


# Replacing


@contextmanager
def replacing_by(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path`; the file under it takes its place in one step, or leaves no trace.

    The file is on the disk before it gets its name, so that even a power cut leaves one of the two.
    What processes that were killed have left in the folder is cleared, see `recover`.
    """
    _recover_once(Path(path).parent)
    temporary = _beside(path, "tmp")
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

    A folder cannot replace another in one step: the one before is moved aside, and moved back by
    `recover` if the process dies in between.
    """
    path = Path(path).resolve()  # where a link leads to, not the link
    recover(path.parent)
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
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


def recover(folder: str | Path) -> None:
    """Clear what processes that were killed left in a folder; bring back what they moved aside."""
    for left in Path(folder).glob(".*"):
        match = LEFT.fullmatch(left.name)
        if not match or _lives(*match.groups()[1:4]):
            continue
        with suppress(OSError):
            if match[5] == "old" and not left.with_name(match[1]).exists():
                os.replace(left, left.with_name(match[1]))
            elif left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


_recover_once = functools.cache(recover)  # a folder may hold thousands of files


def _beside(path: str | Path, kind: str) -> Path:
    """Return a hidden name in the same folder that nobody else has, and that tells whose it is."""
    process = psutil.Process()
    whose = f"{_computer()}-{process.pid}-{process.create_time():.0f}-{uuid.uuid4().hex[:8]}"
    return Path(path).with_name(f".{Path(path).name}.{whose}.{kind}")


def _lives(computer: str, process: str, since: str) -> bool:
    """Tell whether a process lives, or may live: of another computer, nobody here can tell."""
    if computer != _computer():
        return True
    try:
        # Its number may belong to another one by now; and the clock may have been set.
        return abs(psutil.Process(int(process)).create_time() - int(since)) < 60
    except psutil.NoSuchProcess:
        return False


def _computer() -> str:
    return digest(platform.node().encode())[:8]


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


def sealed(found: Mapping) -> dict:
    """Return what JSON makes of a mapping, with a digest of all of it: `unsealed` checks it."""
    if SEAL in found:
        raise ValueError(f"an entry is called {SEAL!r}, as the seal is; take another name.")
    found = json.loads(json.dumps(dict(found)))
    return {**found, SEAL: digest(json.dumps(found, sort_keys=True).encode())}


def unsealed(found: Mapping) -> dict:
    """Return a mapping that was read from a JSON file, without its seal.

    Raises:
        ValueError: it is not what was written.
    """
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
