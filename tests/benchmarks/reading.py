"""Frames per second: TFRecord files read as the thesis does, beside the packed cache."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers import records, workshop
from helpers.sequences import FrameFormat, Order, Shifted, Task, Windows, from_packed

tf = workshop.tensorflow()

BATCH = 32
TASKS: dict[str, Task] = {
    "T20 windows of 19 + 1 frames": Windows(19),
    "T20 sequences, shifted": Shifted(),
    "T20 windows of 3 + 1 frames": Windows(3),
    "T20 windows of 1 + 1 frames": Windows(1),
}


def measure(runs: int, files: int) -> Iterator[tuple[str, str, list[float], str]]:
    """Yield (task, way, frames per second of each run, note); the ways take turns in each run.

    A run reads whole epochs over all files for at least two seconds, one after another as in
    training: shuffled, in batches of 32 float32 examples. One epoch before the runs is not
    counted, as TensorFlow compiles in it. All files are in the disk cache. Each frame of each
    example counts, so a frame counts more than once where windows overlap.
    """
    names, origin = _files(files)
    with tempfile.TemporaryDirectory() as place:
        split = _packed(names, Path(place))
        for label, task in TASKS.items():
            frame_format = FrameFormat(20, 1, time_points=split.shape[0])
            ways = {
                "files, one by one": from_files(names, split.shape, frame_format, task),
                "files, as the thesis": from_files(
                    names, split.shape, frame_format, task, parallel=tf.data.AUTOTUNE
                ),
                "packed": from_packed(
                    split, frame_format, task, batch_size=BATCH, seed=1, repeat=True
                ),
            }
            order = Order(frame_format, task, len(split), batch_size=BATCH)
            batches = order.steps_per_epoch
            # The ways must deliver the same examples, if in another order.
            filled = {way: _filled(data, batches) for way, data in ways.items()}
            if len(set(filled.values())) > 1:
                raise RuntimeError(f"{label}: the ways read different examples: {filled}")
            rates = {way: [] for way in ways}
            for way, data in itertools.chain(*[ways.items()] * runs):
                rate = _examples_per_second(data, batches)
                rates[way].append(rate * task.windows(frame_format.steps).shape[1])
            for way, found in rates.items():
                yield label, way, found, f"{len(names)} files of {origin}"


def from_files(
    names: list[str],
    shape: tuple[int, ...],
    frame_format: FrameFormat,
    task: Task,
    parallel: int | None = None,
) -> tf.data.Dataset:
    """Read one GZIP file per sample, parse, cut into single examples, shuffle, batch, repeat.

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
    data = data.shuffle(len(names) * windows.shape[0] // 2).batch(BATCH).map(finish).repeat()
    return data.prefetch(tf.data.AUTOTUNE) if parallel else data


def _packed(names: list[str], place: Path) -> records.PackedSplit:
    """Pack files, of which one may be there several times, each time under an id of its own."""
    (place / "records").mkdir()
    for number, name in enumerate(names):
        _, rest = Path(name).name.removeprefix("4d_mixed_#").split("_", 1)
        (place / "records" / f"4d_mixed_#{number:06}_{rest}").symlink_to(name)
    return records.packed(place / "records", place / "cache", progress=False)


def _files(count: int) -> tuple[list[str], str]:
    """Find so many records: the thesis's, or else the sample set's, over and over."""
    thesis = os.environ.get("THESIS_FOLDER")
    if thesis:
        folder, origin = Path(thesis) / "data" / workshop.SPLITS["test"], "the thesis"
    else:
        folder, origin = workshop.split_folder("training"), "the sample set, repeated"
    names = [str(path) for path in records.record_paths(folder)]
    return list(itertools.islice(itertools.cycle(names), count)), origin


def _filled(data: tf.data.Dataset, batches: int) -> tuple[int, int]:
    """Count the filled voxels of an epoch, in input and target."""
    totals = np.zeros(2, np.int64)
    for parts in itertools.islice(data, batches):
        totals += [np.count_nonzero(part) for part in parts]
    return int(totals[0]), int(totals[1])


def _examples_per_second(data: tf.data.Dataset, batches: int, least: float = 2.0) -> float:
    """Read whole epochs until so many seconds have gone by."""
    begin = time.perf_counter()
    # Made and dropped here: a stream that waits reads ahead and takes time from the others.
    stream = iter(data)
    examples = 0
    while not examples or time.perf_counter() - begin < least:
        for history, _ in itertools.islice(stream, batches):
            examples += history.shape[0]
    return examples / (time.perf_counter() - begin)
