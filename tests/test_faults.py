"""The fault bench: killed, on a full disk, damaged, two at once.

`python -m tests.test_faults` prints how much was tried of each kind, and how it went. Every try is
made in a fork of a process that has imported all and done nothing, so it takes no longer than the
work itself.
"""

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from data.make import results
from helpers import _files, evaluation, published, records, rollout, training, workshop
from helpers.models import register, weights
from helpers.panels.runs import Run, RunError
from helpers.panels.settings import Settings
from helpers.sequences import FORMATS
from helpers.sources.generated import write_sample_set
from helpers.world.cavities import Sample

CRASHES, KILLS, REFUSALS, MUTATIONS = 30, 10, 8, 200  # of each kind
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
FINE, ERROR, WRONG = 0, 3, 4  # how a fork ends
ROOT = Path(__file__).parent.parent


class Wrong(AssertionError):
    """A fault has spoiled something, or was not told."""


# What is done. Each begins in an empty folder and is taken further by `do`, stage by stage; `look`
# tells what is there then, and raises one of `told` where it can be half done and is called that.


class Operation:
    stages, told = (1, 2), ()

    def lay(self, folder: Path, stage: int) -> None:
        """Put into the folder what `do` needs."""


class Generate(Operation):
    """A generated set takes the place of an older one."""

    told = (FileNotFoundError,)  # killed between the two moves: it is generated again

    def do(self, folder: Path, stage: int) -> None:
        counts = dict.fromkeys(workshop.SPLITS, 1)
        with mock.patch("helpers.sources.generated.generate", generated):
            write_sample_set(folder / "set", counts, stage, overwrite=True)

    def look(self, folder: Path) -> str:
        digests = _files.read_json(folder / "set" / "generated.json")["digests"]
        for split, name in workshop.SPLITS.items():
            assert records.split_digest(folder / "set" / name) == digests[split]
        return str(digests)


class Pack(Operation):
    """Records are packed into a cache, and again when there are more of them."""

    def lay(self, folder: Path, stage: int) -> None:
        (folder / "records").mkdir(exist_ok=True)
        path = records.write_sample(folder / "records", sample(stage))
        os.utime(path, (1, 1))  # its time is in the name of the cache

    def do(self, folder: Path, stage: int) -> None:
        records.packed(folder / "records", folder / "cache", progress=False)

    def look(self, folder: Path) -> str:
        found = []
        for path in caches(folder):
            with contextlib.suppress(records.RecordError):  # an old one that was being removed
                found.append(len(records.PackedSplit(path)))
        return str(max(found))


def caches(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").glob("[!.]*") if path.is_dir()]


class Train(Operation):
    """A network is trained, one round at each stage."""

    stages = (1, 2, 3)

    def do(self, folder: Path, stage: int) -> None:
        keras, tf = workshop.keras(), workshop.tensorflow()
        model, plan = network(), training.Plan(4, validate_every=1)
        model.compile(plan.optimizer(), "mse", run_eagerly=True)
        pair = np.ones((2, 2), np.float32), np.ones((2, 3), np.float32)
        batches = tf.data.Dataset.from_tensors(pair).repeat()
        checkpoint = training.Checkpoint(folder / "run", plan, "val_loss")
        stop = training.Stop()
        until = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: epoch + 1 >= stage and stop.request()
        )
        clock = types.SimpleNamespace(monotonic=lambda: 0.0)  # so that logs are the same
        with mock.patch.object(training, "time", clock):
            checkpoint.restore(model)
            if checkpoint.epoch < stage:
                training.train(
                    model,
                    lambda start: batches,
                    checkpoint,
                    validation=batches.take(1),
                    callbacks=[until, stop],
                )

    def look(self, folder: Path) -> str:
        model = network()
        best = training.load_best(folder / "run", model)
        assert best["step"] <= training.load_last(folder / "run", model)["step"] + 1
        return str([array.tobytes() for array in model.get_weights()])


class Save(Operation):
    """Weights with their card take the place of older ones; a card is written for itself."""

    told = (weights.CheckpointError,)  # new weights beside an old card

    def do(self, folder: Path, stage: int) -> None:
        weights.save_weights(folder / "w.npz", network(stage), {"stage": stage})

    def look(self, folder: Path) -> str:
        model = network(9)
        card = weights.load_weights(folder / "w.npz", model)
        return str((card, model.get_weights()))


class Results(Operation):
    """Models are judged; tables and a page take the place of older ones."""

    told = (ValueError,)  # tables of two times

    def lay(self, folder: Path, stage: int) -> None:
        if stage == 1:
            (folder / "w.npz").write_bytes(b"weights")
            (folder / "page.md").write_text("\n".join(results.MARKS))

    def do(self, folder: Path, stage: int) -> None:
        path, page = folder / "w.npz", folder / "page.md"
        case = results.Case(path, {"model": "convlstm", "configuration": {}}, FORMATS["T20_TINC1"])
        points = np.stack([sample(number * stage).frames for number in range(3)])
        split = points, np.arange(3)
        stand_in = mock.patch.multiple(
            results,
            cases=lambda *_: [case],
            samples_of_test=lambda *_: split,
        )
        few = mock.patch.object(evaluation, "RESAMPLES", 20)
        cost = mock.patch.object(results.Case, "cost", lambda self: {"parameters": 1})
        forecaster = mock.patch.object(register, "load", lambda *_, **__: rollout.Persistence())
        with stand_in, few, cost, forecaster:
            found = results.make(folder, folder / "work")
            results.write(found, folder / "out", {page: table_text})

    def look(self, folder: Path) -> str:
        return table_text(published.course_results(folder / "out"))


OPERATIONS = (Generate, Pack, Train, Save, Results)


def sample(number: int) -> Sample:
    """A sample of a few voxels, and one that turns round with its number."""
    times = np.arange(128)
    frames = np.zeros((128, 4, 4, 4), np.uint8)
    frames[times, times // 2 * (number + 1) % 4] = 1
    betti, objects = np.array([[1, 0, 0, 1], [1, 0, 0, 0]], np.uint8)
    return Sample(frames, betti, objects, sample_id=number)


def generated(count: int, seed: int, *, processes: int, first_id: int) -> Iterator[Sample]:
    yield from (sample(first_id + seed % 5) for _ in range(count))


def network(seed: int = 1):
    """A network of two layers; the seed decides its weights."""
    keras = workshop.keras()
    kernel = {"kernel_initializer": keras.initializers.Constant(seed / 10)}
    layers = [keras.layers.Dense(width, **kernel) for width in (4, 3)]
    return keras.Sequential([keras.Input((2,)), *layers])


def table_text(found: dict[str, pd.DataFrame]) -> str:
    return "".join(table.to_csv() for table in found.values())


# Forks


def begin(work: Callable[[], object]) -> tuple[int, int]:
    """Do something in a process of its own; `end` tells how it went and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    signal.alarm(120)  # whatever waits for ever
    try:
        ended, text = FINE, str(work())
    except OSError as error:
        ended, text = ERROR, str(error)
    except BaseException as error:
        ended, text = WRONG, f"{type(error).__name__}: {error}"
    with os.fdopen(writing, "w", errors="replace") as file:
        file.write(text)
    os._exit(ended)


def end(child: int, reading: int) -> tuple[int, str]:
    with os.fdopen(reading, errors="replace") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def fork(work: Callable[[], object], *arguments) -> tuple[int, str]:
    return end(*begin(partial(work, *arguments)))


def fine(work: Callable[[], object], *arguments) -> str:
    ended, text = fork(work, *arguments)
    if ended != FINE:
        raise Wrong(f"ended with {ended}: {text}")
    return text


# How it is disturbed


class Bench:
    """Disturbs an operation in one folder, which looks the same before each try."""

    def __init__(self, operation: Operation, place: Path, chance: random.Random):
        self.operation, self.chance = operation, chance
        self.folder, self.before = place / "folder", place / "before"
        self.folder.mkdir()
        self.known = []
        for stage in operation.stages:
            fine(operation.lay, self.folder, stage)
            if stage == operation.stages[-1]:
                shutil.copytree(self.folder, self.before)
            fine(operation.do, self.folder, stage)
            self.known.append(fine(operation.look, self.folder))
        if len(set(self.known)) < len(self.known):
            raise Wrong("two stages look the same")
        self.after = snapshot(self.folder)
        self.prepare()
        start = time.monotonic()
        fine(self.do)
        self.seconds = time.monotonic() - start
        self.prepare()
        self.changes = int(fine(lambda: (self.at_change(0, die), self.do(), self.count[0])[-1]))

    def prepare(self) -> None:
        """Make the folder as it is before the last stage."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)

    def do(self) -> None:
        self.operation.do(self.folder, self.operation.stages[-1])

    def at_change(self, number: int, then: Callable[[object], None]) -> None:
        """In this process, do something just before the folder is changed the n-th time."""
        self.count, begin = [0], str(self.folder)

        def hook(event: str, arguments: tuple) -> None:
            if event not in CHANGES or not str(arguments[0]).startswith(begin):
                return
            if event != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.count[0] += 1
                if self.count[0] == number:
                    then(arguments[0])

        sys.addaudithook(hook)

    def tries(self) -> Iterator[tuple[str, Callable[[], tuple[int, str]], tuple[int, ...]]]:
        """Yield the kind of each fault, what makes it, and how that may end."""
        chance, every = self.chance, range(1, self.changes + 1)

        def some(count: int) -> list[int]:
            return sorted(chance.sample(every, min(count, len(every))))

        def at(number, then):
            return fork(lambda: (self.at_change(number, then), self.do()))

        for number in some(CRASHES):
            yield "crash at a call", partial(at, number, die), (-signal.SIGKILL,)
        for _ in range(KILLS):
            moment = chance.random() * self.seconds
            yield "killed", partial(self.killed, moment), (-signal.SIGKILL, FINE)
        for number in some(REFUSALS):
            yield "disk full at a call", partial(at, number, full), (ERROR, FINE)
        for _ in range(3):
            yield "two at once", self.twice, (FINE, ERROR)

    def killed(self, moment: float) -> tuple[int, str]:
        child = begin(self.do)
        time.sleep(moment)
        os.kill(child[0], signal.SIGKILL)
        return end(*child)

    def twice(self) -> tuple[int, str]:
        return max(end(*child) for child in [begin(self.do), begin(self.do)])

    def attempt(self, disturb: Callable[[], tuple[int, str]], allowed: tuple[int, ...]) -> None:
        """Disturb: what was there or what should come is whole; then it can be done.

        Raises:
            Wrong: neither is whole, it ended in another way than `allowed`, its error does not
                say where, or something is left.
        """
        self.prepare()
        ended, text = disturb()
        if ended not in allowed or (ended == ERROR and str(self.folder) not in text):
            raise Wrong(f"ended with {ended}: {text}")
        ended, text = fork(self.look)
        if ended != FINE or text not in (*self.known, "told"):
            raise Wrong(f"left something that is not whole: {text[:200]}")
        fine(self.do)
        if (found := snapshot(self.folder)) != self.after:
            raise Wrong(f"left, after all was done, {sorted(found.items() ^ self.after.items())}")

    def look(self) -> str:
        try:
            return self.operation.look(self.folder)
        except self.operation.told:
            return "told"


def die(_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full(path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def snapshot(folder: Path) -> dict[str, str]:
    """Return the digest of each file in a folder, by its path; what was begun is left out."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in files}
    return {name: _files.digest(path) for name, path in names.items() if ".tmp" not in name}


# What is damaged: makes a file, and returns its path, what reads it, and the errors that tell


def record(folder: Path):
    path = records.write_sample(folder, sample(1))
    return path, lambda: records.read_sample(path).frames.tobytes(), records.RecordError


def begin_anew(operation: Operation, folder: Path) -> None:
    operation.lay(folder, operation.stages[0])
    operation.do(folder, operation.stages[0])


def packed(name: str, folder: Path):
    begin_anew(Pack(), folder)
    (place,) = caches(folder)

    def read():
        found = records.PackedSplit(place)
        return found.frames().tobytes() + found.betti.tobytes() + str(found.source).encode()

    return place / name, read, records.RecordError


def mark(folder: Path):
    """The mark of a generated set: where it cannot be trusted, nothing is replaced."""
    begin_anew(Generate(), folder)

    def read():
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(folder, place, dirs_exist_ok=True)
            Generate().do(Path(place), 2)

    return folder / "set" / "generated.json", read, FileExistsError


def run(name: str, folder: Path):
    begin_anew(Train(), folder)
    load = {training.CHECKPOINT: training.load_last, training.BEST: training.load_best}[name]

    def read():
        model = network(9)
        return str((load(folder / "run", model), model.get_weights()))

    return folder / "run" / name, read, weights.CheckpointError


def shipped(name: str, folder: Path):
    begin_anew(Save(), folder)
    return folder / name, lambda: Save().look(folder), weights.CheckpointError


def laboratory(folder: Path):
    place = folder / "0001"
    place.mkdir()
    Run(place, Settings(steps=4), 1, {"val_jaccard": 0.3}, "some").write()
    return place / "run.json", lambda: str(Run.read(place)), RunError


def tables(name: str, folder: Path):
    begin_anew(Results(), folder)
    return folder / "out" / name, lambda: Results().look(folder), ValueError


FILES = {
    "record": record,
    **{name: partial(packed, name) for name in ("frames.bits", "labels.npy", "manifest.json")},
    "mark of a set": mark,
    **{name: partial(run, name) for name in (training.CHECKPOINT, training.BEST)},
    "weights": partial(shipped, "w.npz"),
    "card": partial(shipped, "w.json"),
    "run.json": laboratory,
    **{name: partial(tables, name) for name in ("summary.csv", "horizons.csv")},
    "results.json": partial(tables, "results.json"),
}


def damage(content: bytes, chance: random.Random) -> bytes:
    """Return content with a bit flipped, cut short, some of it doubled, or zeros in it."""
    at, length = chance.randrange(len(content)), chance.randrange(1, 64)
    head, byte, tail = content[:at], content[at], content[at + 1 :]
    flipped = head + bytes([byte ^ 1 << chance.randrange(8)]) + tail
    doubled = head + content[at : at + length] + content[at:]
    return chance.choice((flipped, head, doubled, head + bytes(length) + content[at + length :]))


def mutations(make: Callable, place: Path, chance: random.Random) -> str:
    """Read damaged files: each gives a clear error, or what was there. Return what went wrong."""
    path, read, told = make(place)
    content, good, wrong = path.read_bytes(), read(), []
    for _ in range(MUTATIONS):
        path.write_bytes(damage(content, chance))
        try:
            if read() != good:
                wrong.append("was read as something else without a word")
        except told as error:
            if path.name not in str(error) and path.parent.name not in str(error):
                wrong.append(f"does not name the file: {error}")
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return "\n".join(each.replace("\n", " ")[:300] for each in wrong)


def bench(name: str, seed: int = 20) -> tuple[Counter, list[tuple[str, str]]]:
    """Try all faults of an operation, or of a file; return how many of each kind, and the wrong."""
    tried, failed, chance = Counter(), [], random.Random(f"{seed} {name}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        place = Path(place).resolve()
        if name in FILES:
            kind = f"{name}, damaged"
            tried[kind] = MUTATIONS
            ended, text = fork(mutations, FILES[name], place, chance)
            failed += [(kind, line) for line in text.splitlines()]
            if ended != FINE:
                failed.append((kind, f"ended with {ended}"))
        else:
            operation = next(each for each in OPERATIONS if each.__name__ == name)
            found = Bench(operation(), place, chance)
            for kind, disturb, allowed in found.tries():
                kind = f"{name.lower()}, {kind}"
                tried[kind] += 1
                try:
                    found.attempt(disturb, allowed)
                except Wrong as wrong:
                    failed.append((kind, str(wrong)))
    return tried, failed


def main(names: list[str]) -> int:
    """Print a table of what was tried, and what has failed; return 1 if something has."""
    names = names or [*(each.__name__ for each in OPERATIONS), *FILES]
    workshop.keras(), workshop.tensorflow()
    why = []
    print("| fault | tried | clear | failed |", "| --- | --- | --- | --- |", sep="\n", flush=True)
    with ProcessPoolExecutor(workshop.cores(), multiprocessing.get_context("fork")) as pool:
        for tried, failed in pool.map(bench, names):
            wrong = Counter(kind for kind, _ in failed)
            for kind, count in tried.items():
                line = f"| {kind} | {count} | {count - wrong[kind]} | {wrong[kind]} |"
                print(line, flush=True)
            why += [f"{kind}: {text}" for kind, text in failed]
    print(*dict.fromkeys(why), sep="\n")
    return 1 if why else 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_faults_lose_nothing_and_are_told():
    command = [sys.executable, "-m", "tests.test_faults"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n| ") > 30


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
