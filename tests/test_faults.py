"""The fault bench: killed, refused, on a full disk, damaged, two at once.

`python -m tests.test_faults` prints how much was tried and how it went. What it does is done in a
fork of this process, so a try takes no longer than the work itself.
"""

import contextlib
import errno
import functools
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import _files, evaluation, records, workshop
from helpers.sources.generated import write_sample_set
from helpers.world import cavities

POINTS, KILLS, MUTATIONS = 30, 10, 200  # of each kind
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
FINE, ERROR, WRONG = 0, 3, 4  # how a fork ends
COUNTED = [0]  # changes of the folder, in a fork
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


class Wrong(AssertionError):
    """A fault has spoiled something, or was not noticed."""


# What is done: each changes what lies in a folder, from something whole to something whole


class Generate:
    """A generated set takes the place of an older one."""

    errors = (OSError,)

    def before(self, folder: Path) -> None:
        self._write(folder, 1)

    def do(self, folder: Path) -> None:
        self._write(folder, 2)

    def _write(self, folder: Path, seed: int) -> None:
        counts = dict.fromkeys(workshop.SPLITS, 2)
        write_sample_set(folder / "set", counts, seed, overwrite=True, progress=False)

    def look(self, folder: Path) -> str:
        """Return what is there, as a digest; anything that is not whole is an error."""
        _files.recover_folder(folder / "set")
        digests = _files.read_json(folder / "set" / "generated.json")["digests"]
        for split, name in workshop.SPLITS.items():
            assert records.split_digest(folder / "set" / name) == digests[split]
        return str(digests)


class Pack:
    """Records are packed into a cache."""

    errors = (OSError,)

    def before(self, folder: Path) -> None:
        (folder / "records").mkdir()
        for sample in samples():
            records.write_sample(folder / "records", sample)

    def do(self, folder: Path) -> None:
        records.packed(folder / "records", folder / "cache", progress=False)

    def look(self, folder: Path) -> str:
        found = [path for path in (folder / "cache").glob("[!.]*") if path.is_dir()]
        return "".join(records.PackedSplit(path).checksum["frames.bits"] for path in found)


class Table:
    """A table of results takes the place of an older one."""

    errors = (OSError,)

    def before(self, folder: Path) -> None:
        evaluation.save(table(0.25), folder / "table.csv")

    def do(self, folder: Path) -> None:
        evaluation.save(table(0.5), folder / "table.csv")

    def look(self, folder: Path) -> str:
        return str(evaluation.load(folder / "table.csv")["prediction_jaccard"].sum())


@functools.cache
def samples() -> list:
    return list(cavities.generate(3, seed=5))


def table(distance: float) -> pd.DataFrame:
    frames = np.zeros((40, 8, 4, 4, 4), np.uint8)
    frames[:, ::2, 1] = 1
    found = evaluation.next_frame(lambda history: history[:, -1], frames, name="model")
    return found.assign(prediction_jaccard=distance)


# How it is disturbed


def fork(work: Callable[[], None]) -> int:
    """Do something in a process of its own; return how it ended."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            work()
            os._exit(FINE)
        except OSError as error:
            os._exit(ERROR if str(error) else WRONG)
        except BaseException:
            os._exit(WRONG)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_change(folder: Path, number: int, then: Callable[[], None]) -> None:
    """In this process, do something just before the folder is changed the n-th time."""

    def hook(event: str, arguments: tuple) -> None:
        if event not in CHANGES or not arguments or not isinstance(arguments[0], (str, Path)):
            return
        writes = event != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and str(arguments[0]).startswith(str(folder)):
            COUNTED[0] += 1
            if COUNTED[0] == number:
                then()

    sys.addaudithook(hook)


def changes(operation) -> int:
    """Count how often an operation changes its folder."""
    with prepared(operation) as folder:
        seen = folder.parent / "seen"

        def work():
            at_change(folder, 0, die)
            operation.do(folder)
            seen.write_text(str(COUNTED[0]))

        assert fork(work) == FINE
        return int(seen.read_text())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def prepared(operation) -> Iterator[Path]:
    """Make a folder in which an operation can begin."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "folder"
        shutil.copytree(begun(operation), folder, copy_function=shutil.copy2)
        yield folder


@functools.cache
def begun(operation) -> Path:
    place = tempfile.TemporaryDirectory()
    operation.keep = place  # until the operation is forgotten
    operation.before(Path(place.name).resolve())
    return Path(place.name).resolve()


@functools.cache
def done(operation) -> tuple[str, str, list[str]]:
    """Return what is there before and after an operation, and the names in its folder then."""
    with prepared(operation) as folder:
        old = operation.look(folder)
        operation.do(folder)
        return old, operation.look(folder), sorted(os.listdir(folder))


def disturbed(operation, disturb: Callable[[Path], int], allowed: tuple[int, ...]) -> None:
    """Disturb an operation: what was there or what should come is whole; then it can be done.

    Raises:
        Wrong: neither is whole, it ended in another way than `allowed`, or something is left.
    """
    old, new, names = done(operation)
    with prepared(operation) as folder:
        if (ended := disturb(folder)) not in allowed:
            raise Wrong(f"ended with {ended}")
        try:
            found = operation.look(folder)
        except Exception as error:
            raise Wrong(f"left something that is not whole: {error!r}") from error
        if found not in (old, new):
            raise Wrong("left neither what was there nor what should come")
        if fork(lambda: operation.do(folder)) != FINE:
            raise Wrong("could not be done afterwards")
        if operation.look(folder) != new or sorted(os.listdir(folder)) != names:
            raise Wrong(f"left {sorted(os.listdir(folder))}")


def faults(operation, random: random.Random) -> dict[str, list[Callable[[], None]]]:
    """Return what is tried with an operation, by the kind of fault."""
    with prepared(operation) as folder:
        begin = time.monotonic()
        assert fork(lambda: operation.do(folder)) == FINE
        seconds = time.monotonic() - begin
    total = changes(operation)
    points = sorted(random.sample(range(1, total + 1), min(POINTS, total)))
    moments = [random.random() * seconds for _ in range(KILLS)]
    sizes = [0, *(int(2 ** random.uniform(0, 14)) for _ in range(KILLS))]

    def crash(number):
        return lambda folder: fork(lambda: (at_change(folder, number, die), operation.do(folder)))

    def full(number, kind):
        return lambda folder: fork(
            lambda: (at_change(folder, number, lambda: refuse(kind)), operation.do(folder))
        )

    def killed(moment):
        def disturb(folder):
            child = os.fork()
            if child == 0:
                operation.do(folder)
                os._exit(FINE)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        return disturb

    def small(size):
        def work(folder):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            operation.do(folder)

        return lambda folder: fork(lambda: work(folder))

    def twice(folder):
        child = os.fork()
        if child == 0:
            operation.do(folder)
            os._exit(FINE)
        ended = fork(lambda: operation.do(folder))
        return max(ended, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    tries = {
        "crash at a call": [(crash(n), (-signal.SIGKILL,)) for n in points],
        "killed": [(killed(moment), (-signal.SIGKILL, FINE)) for moment in moments],
        "disk full at a call": [(full(n, errno.ENOSPC), (ERROR, FINE)) for n in points],
        "read-only at a call": [(full(n, errno.EROFS), (ERROR, FINE)) for n in points],
        "no room for a file": [(small(size), (ERROR, FINE)) for size in sizes],
        "two at once": [(twice, (FINE, ERROR))] * 3,
    }
    return {
        kind: [functools.partial(disturbed, operation, *each) for each in found]
        for kind, found in tries.items()
    }


# What is damaged


def damage(content: bytes, random: random.Random) -> bytes:
    """Return content with a byte changed, cut, doubled, or a stretch of zeros in it."""
    place = random.randrange(len(content))
    length = random.randrange(1, 64)
    return random.choice(
        (
            content[:place]
            + bytes([content[place] ^ 1 << random.randrange(8)])
            + content[place + 1 :],
            content[:place],
            content[:place] + content[place : place + length] + content[place:],
            content[:place] + bytes(length) + content[place + length :],
        )
    )


def a_record(folder: Path):
    path = records.write_sample(folder, samples()[0])
    return path, lambda: records.read_sample(path).frames.tobytes(), (records.RecordError,)


def a_packed(name: str, folder: Path):
    (folder / "records").mkdir()
    for sample in samples():
        records.write_sample(folder / "records", sample)
    split = records.packed(folder / "records", folder / "cache", progress=False)

    def read():
        found = records.PackedSplit(split.folder)
        return found.frames(np.arange(len(found))).tobytes() + found.betti.tobytes()

    return split.folder / name, read, (records.RecordError,)


def a_mark(folder: Path):
    counts = dict.fromkeys(workshop.SPLITS, 1)
    path = folder / "set" / "generated.json"
    write_sample_set(path.parent, counts, 1, progress=False)

    def read():  # a set whose mark cannot be trusted is nobody's to replace
        before = path.read_bytes()
        shutil.copytree(path.parent, folder / "copy")
        try:
            write_sample_set(folder / "copy", counts, 1, overwrite=True, progress=False)
            return (folder / "copy" / "generated.json").read_bytes()
        finally:
            shutil.rmtree(folder / "copy")
            assert path.read_bytes() == before

    return path, read, (FileExistsError,)


FILES = {
    "record": a_record,
    "packed frames": functools.partial(a_packed, "frames.bits"),
    "packed labels": functools.partial(a_packed, "labels.npy"),
    "packed manifest": functools.partial(a_packed, "manifest.json"),
    "mark of a set": a_mark,
}


def mutated(path: Path, read: Callable[[], bytes], errors: tuple, content: bytes, good: bytes):
    """Read a damaged file: a clear error, or what was there before.

    Raises:
        Wrong: another error, or something else was read.
    """
    path.write_bytes(content)
    try:
        found = read()
    except errors as error:
        if path.name not in str(error) and path.parent.name not in str(error):
            raise Wrong(f"does not name the file: {error}") from None
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    else:
        if found != good:
            raise Wrong("was read as something else without a word")


OPERATIONS = (Generate, Pack, Table)


def bench(share: float = 1.0, seed: int = 20) -> tuple[Counter, Counter, list[str]]:
    """Try a share of all faults; return how many of each kind were tried, went wrong, and why."""
    tried, failed, why = Counter(), Counter(), []

    def attempt(kind: str, work: Callable[[], None]) -> None:
        tried[kind] += 1
        try:
            work()
        except Wrong as wrong:
            failed[kind] += 1
            why.append(f"{kind}: {wrong}")

    chance = random.Random(seed)
    for operation in OPERATIONS:
        for kind, works in faults(operation(), chance).items():
            for work in chance.sample(works, math.ceil(share * len(works))):
                attempt(f"{operation.__name__.lower()}, {kind}", work)
    for name, make in FILES.items():
        with tempfile.TemporaryDirectory() as place:
            path, read, errors = make(Path(place).resolve())
            content, good = path.read_bytes(), read()
            for _ in range(math.ceil(share * MUTATIONS)):
                work = functools.partial(mutated, path, read, errors, damage(content, chance), good)
                attempt(f"{name}, damaged", work)
    return tried, failed, why


def test_faults_lose_nothing_and_are_told():
    tried, failed, why = bench()
    assert not failed, "\n".join(why)
    assert len(tried) > 15


if __name__ == "__main__":
    TRIED, FAILED, WHY = bench(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
    print("| fault | tried | clear | failed |", "| --- | --- | --- | --- |", sep="\n")
    for kind, count in TRIED.items():
        print(f"| {kind} | {count} | {count - FAILED[kind]} | {FAILED[kind]} |")
    print(*WHY[:20], sep="\n")
