"""Frames per second: TFRecord files read as the thesis does, beside the packed cache."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from helpers import records, workshop
from helpers.sequences import FrameFormat, Shifted, Task, Windows, from_packed

BATCH = 32
TASKS: dict[str, Task] = {
    "T20 sequences": Shifted(),
    "T20 windows of 3 + 1 frames": Windows(3),
    "T20 windows of 1 + 1 frames": Windows(1),
}


def measure(runs: int, files: int) -> Iterator[tuple[str, str, list[float], str]]:
    """Yield (task, way, frames per second of each run, note); the ways take turns in each run.

    A run is one epoch over all files, shuffled, in batches of 32 float32 examples, from the
    construction of the dataset to its last batch. All files are in the disk cache.
    """
    names, origin = _files(files)
    with tempfile.TemporaryDirectory() as place:
        samples = (records.read_sample(name) for name in names)
        split = records.pack_samples(samples, Path(place) / "packed", progress=False)
        for label, task in TASKS.items():
            frame_format = FrameFormat(20, 1, time_points=split.shape[0])
            ways = {
                "files, one by one": lambda: from_files(names, split.shape, frame_format, task),
                "files, as the thesis": lambda: from_files(
                    names, split.shape, frame_format, task, parallel=tf.data.AUTOTUNE
                ),
                "packed": lambda: from_packed(
                    split, frame_format, task, batch_size=BATCH, seed=1
                ),
            }
            rates = {way: [] for way in ways}
            totals = set()
            for way, make in itertools.chain(*[ways.items()] * (runs + 1)):
                rate, total = _pass(make)
                totals.add(total)
                rates[way].append(rate * task.windows(20).shape[1])
            if len(totals) > 1:
                raise AssertionError(f"{label}: the ways read different examples: {totals}")
            for way, found in rates.items():
                # The first round compiles what TensorFlow compiles; it is not counted.
                yield label, way, found[1:], f"{len(names)} files of {origin}"


def from_files(
    names: list[str],
    shape: tuple[int, ...],
    frame_format: FrameFormat,
    task: Task,
    parallel: int | None = None,
) -> tf.data.Dataset:
    """Read one GZIP file per sample, parse, cut into single examples, shuffle, batch.

    Without `parallel` every step runs one after the other, as in a first tutorial. The thesis
    lets TensorFlow choose how many files it reads and parses at once, and ignores the order.
    """
    feature = {
        name: tf.io.FixedLenFeature([], tf.string)
        for name in ("object4d", "labelBetti", "labelObjs")
    }
    windows = tf.constant(frame_format.times[task.windows(frame_format.steps)])

    def parse(serialised: tf.Tensor) -> tf.Tensor:
        example = tf.io.parse_single_example(serialised, feature)
        frames = tf.reshape(tf.io.decode_raw(example["object4d"], tf.uint8), shape)
        return tf.gather(frames, windows)  # (examples, frames, D, H, W)

    def finish(frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        history, target = task.split(tf.cast(frames[..., tf.newaxis], tf.float32))
        return history, target

    data = tf.data.TFRecordDataset(names, compression_type="GZIP", num_parallel_reads=parallel)
    if parallel:
        options = tf.data.Options()
        options.deterministic = False
        data = data.with_options(options)
    data = data.map(parse, num_parallel_calls=parallel).unbatch()
    data = data.shuffle(len(names) * windows.shape[0] // 2).batch(BATCH).map(finish)
    return data.prefetch(tf.data.AUTOTUNE) if parallel else data


def _files(count: int) -> tuple[list[str], str]:
    """Find so many records: the thesis's, or else the sample set's, over and over."""
    thesis = os.environ.get("THESIS_FOLDER")
    if thesis:
        folder, origin = Path(thesis) / "data" / workshop.SPLITS["test"], "the thesis"
    else:
        folder, origin = workshop.split_folder("training"), "the sample set, repeated"
    names = [str(path) for path in records.record_paths(folder)]
    return list(itertools.islice(itertools.cycle(names), count)), origin


def _pass(make: Callable[[], tf.data.Dataset]) -> tuple[float, tuple[int, int]]:
    """Read one epoch; return examples per second, and the examples and the size of the last."""
    start = time.perf_counter()
    examples = 0
    for history, _ in make():
        examples += history.shape[0]
    seconds = time.perf_counter() - start
    return examples / seconds, (examples, int(np.prod(history.shape[1:])))
