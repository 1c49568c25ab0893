"""Sets of generated samples, and the command line."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_records import make_folder, make_sample

from helpers import __main__ as commands
from helpers import records
from helpers.sources import generated
from helpers.workshop import SPLITS

COUNTS = dict(training=4, validation=2, test=1)


@pytest.fixture
def small_world(monkeypatch):
    """Small samples in place of the generator's; gives the list of seeds it was asked for."""
    seeds = []

    def generate(count, seed, *, processes, first_id):
        seeds.append(seed)
        for number in range(first_id, first_id + count):
            sample = make_sample(number)
            yield replace(sample, frames=np.roll(sample.frames, seed % 4))

    monkeypatch.setattr(generated, "generate", generate)
    return seeds


def arguments(folder, *more):
    counts = (f"--{split}={count}" for split, count in COUNTS.items())
    return ["generate", str(folder), *counts, "--seed", "5", *more]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_generate(tmp_path, small_world, capsys):
    folder = tmp_path / "deep" / "sample"
    assert commands.main(arguments(folder)) == 0
    assert "4 training, 2 validation, 1 test" in capsys.readouterr().out
    ids = [
        [sample.sample_id for sample in records.read_folder(folder / name)]
        for name in SPLITS.values()
    ]
    assert ids == [[0, 1, 2, 3], [4, 5], [6]]
    assert len(set(small_world)) == 3
    assert sorted(os.listdir(folder)) == [*SPLITS.values(), generated.MARK]
    mark = json.loads((folder / generated.MARK).read_text())
    assert (mark["seed"], mark["counts"]) == (5, COUNTS)
    assert commands.main(arguments(folder)) == 1
    assert "exists" in capsys.readouterr().err
    before = contents(folder)
    assert commands.main(arguments(folder, "--overwrite")) == 0
    assert contents(folder) == before
    assert os.listdir(folder.parent) == ["sample"]


TRAINING = SPLITS["training"]


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda folder: (folder / "notes.txt").touch(), "notes.txt"),
        (lambda folder: (folder / TRAINING / "notes.txt").touch(), f"{TRAINING}/notes.txt"),
        (
            lambda folder: records.write_sample(folder / TRAINING, make_sample(77)),
            f"{TRAINING}/records that were added",
        ),
        (
            lambda folder: records.record_paths(folder / TRAINING)[0].write_bytes(b""),
            f"{TRAINING}/records that were added, changed or removed",
        ),
        (lambda folder: (folder / generated.MARK).write_text("[]"), "its mark, is missing"),
    ],
)
def test_only_an_untouched_set_of_our_own_is_overwritten(tmp_path, small_world, change, named):
    folder = generated.write_sample_set(tmp_path / "sample", COUNTS, 1)
    change(folder)
    before = contents(folder)
    with pytest.raises(FileExistsError, match="Nothing was changed") as caught:
        generated.write_sample_set(folder, COUNTS, 2, overwrite=True)
    assert named.replace("/", os.sep) in str(caught.value)
    assert contents(folder) == before and os.listdir(tmp_path) == ["sample"]


def test_the_thesis_set_and_files_are_not_overwritten(tmp_path, small_world):
    for name in SPLITS.values():
        make_folder(tmp_path / "thesis" / name, 1)
    (tmp_path / "file").touch()
    for name in ("thesis", "file"):
        with pytest.raises(FileExistsError):
            generated.write_sample_set(tmp_path / name, COUNTS, 2, overwrite=True)


def test_the_sample_set_of_the_course_bears_its_mark(sample_set):
    assert not generated._others(sample_set)
    mark = json.loads((sample_set / generated.MARK).read_text())
    assert mark["seed"] == 2024
    assert mark["counts"] == {
        split: len(os.listdir(sample_set / name)) for split, name in SPLITS.items()
    }


def test_generate_interrupted(tmp_path, small_world, full_disk, capsys):
    full_disk(5)
    assert commands.main(arguments(tmp_path / "sample")) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "counts, message",
    [
        ({"training": 1}, "counts of validation is None; expected a whole number"),
        ({**COUNTS, "validation": -1}, "counts of validation is -1; expected at least 0"),
    ],
)
def test_wrong_counts(tmp_path, counts, message):
    with pytest.raises((TypeError, ValueError), match=message):
        generated.write_sample_set(tmp_path / "sample", counts, 1)
    assert os.listdir(tmp_path) == []


def test_the_generator_makes_each_split_of_its_own(tmp_path):
    counts = dict(training=1, validation=1, test=0)
    generated.write_sample_set(tmp_path / "set", counts, 1)
    training, validation = (
        records.read_folder(tmp_path / "set" / SPLITS[name])[0]
        for name in ("training", "validation")
    )
    assert training.frames.shape == (128, 16, 16, 16)
    assert (training.sample_id, validation.sample_id) == (0, 1)
    assert not np.array_equal(training.frames, validation.frames)
    generated.write_sample_set(tmp_path / "set", COUNTS | counts, 1, overwrite=True)


MAKING = """
import sys
from helpers.world.cavities import generate
if __name__ == "__main__":
    for sample in generate(10_000, 1, processes=2):
        print("made", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(MAKING)
    root = str(Path(records.__file__).parent.parent)
    child = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    with child:
        assert child.stdout.readline() == "made\n"
        workers = psutil.Process(child.pid).children(recursive=True)
        assert len(workers) >= 2
        child.kill()
        child.wait(60)
        _, alive = psutil.wait_procs(workers, timeout=60)
        child.stdout.close()
    assert not alive


# The command line


def test_validate(tmp_path, capsys):
    for number, name in enumerate(SPLITS.values()):
        make_folder(tmp_path / "set" / name, 3, first_id=10 * number)
    assert commands.main(["validate", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out == "9 good, 0 bad\n"
    bad = tmp_path / "set" / SPLITS["test"] / make_sample(21).file_name
    bad.write_bytes(b"")
    good = bad.with_name(make_sample(20).file_name)
    assert commands.main(["validate", str(good), str(bad)]) == 1
    told = capsys.readouterr()
    assert told.out == "1 good, 1 bad\n"
    assert str(bad) in told.err
    assert commands.main(["generate", str(tmp_path), "--seed", "-1"]) == 1
    assert "seed is -1; expected at least 0" in capsys.readouterr().err
