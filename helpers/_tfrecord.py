"""What is inside one record: from the bytes of a file to a checked sample, and back."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from helpers import _checks, _files
from helpers.workshop import cores, tensorflow
from helpers.world.cavities import UNLABELLED, Sample, betti_numbers

FEATURES = ("object4d", "labelBetti", "labelObjs")
NAME = re.compile(r"4d_mixed_#(\d+)_(\d+)_(\d+)\.tfrecords")
# Voxels of a sample; the thesis's have 2**19. A small file may unpack to more than there is memory.
LIMIT = 2**28


class RecordError(ValueError):
    """A record, a packed split or an archive is not what it must be; `path` says which one."""

    def __init__(self, message: str, path: str | Path | None = None):
        super().__init__(message)
        self.path = path and Path(path)


def bad(path: Path, problem: str) -> RecordError:
    """Return the error that says what is wrong with a path."""
    return RecordError(f"{path}: {problem}", path)


def read(path: Path) -> Sample:
    """Read one file and check all of it but the checksums, which `refused` looks at."""
    try:
        return _parse(path.name, _payload(path))
    except RecordError as error:
        raise bad(path, str(error)) from error


def refused(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the files that TensorFlow's reader refuses, and why.

    It halves until they are found: one pass over many files costs 1 ms per file, a pass over a
    single one more than 20.
    """
    if not paths:
        return {}
    tf = tensorflow()
    # A path that is no UTF-8 reaches the file only as the bytes that the system knows it by.
    names = [os.fsencode(path) for path in paths]
    try:
        records = tf.data.TFRecordDataset(names, "GZIP", num_parallel_reads=workers())
        records.reduce(np.int64(0), lambda count, _: count + 1)
        return {}
    except tf.errors.OpError as error:
        if len(paths) == 1:
            problem = f"TensorFlow cannot read the file: {error.message}"
            if isinstance(error, tf.errors.DataLossError):
                problem = (
                    "expected a TFRecord with matching checksums, found a CRC that does not match "
                    "its data; the program that wrote the file is at fault: get or write it again."
                )
            return {paths[0]: problem}
    half = len(paths) // 2
    return refused(paths[:half]) | refused(paths[half:])


def write(path: Path, sample: Sample) -> None:
    """Write a checked sample; the features are in the order of their names."""
    tf = tensorflow()
    values = (sample.frames.astype(np.uint8, copy=False), sample.betti, sample.objects)
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
        for name, value in zip(FEATURES, values, strict=True)
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    with _files.replacing_by(path) as temporary:
        try:
            with tf.io.TFRecordWriter(os.fsencode(temporary), "GZIP") as writer:
                writer.write(example.SerializeToString(deterministic=True))
        except tf.errors.OpError as error:
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            message = f"{path}: the record cannot be written: {error.message}"
            raise OSError(errno.ENOSPC if full else errno.EIO, message) from error


def checked(sample: Sample) -> Sample:
    """Return a sample with plain arrays, or say in which way it breaks the rules of the format."""
    what = f"sample {sample.sample_id}"
    arrays = {
        name: _checks.unmasked(f"{what}: {name}", getattr(sample, name))
        for name in ("frames", "betti", "objects")
    }
    sample = replace(sample, **arrays)
    if problem := _problem(sample):
        raise RecordError(f"{what}: {problem}")
    return sample


def workers() -> int:
    """Return how many files are read side by side."""
    return min(8, cores())


def _payload(path: Path) -> bytes:
    """Unpack a file and return the bytes of its only example."""
    most = LIMIT + 4096  # room for the labels
    too_large = f"expected a record of at most {LIMIT} voxels, found a file that holds more."
    try:
        if path.stat().st_size > most:
            raise RecordError(too_large)
        packed = path.read_bytes()
    except OSError as error:
        raise RecordError(f"the file cannot be read: {error}") from error
    if not packed:
        raise RecordError("expected a record, found an empty file; get it again.")
    if not packed.startswith(b"\x1f\x8b"):
        raise RecordError(
            "expected a GZIP-compressed TFRecord, found a file that is not GZIP; write it with "
            "write_sample, or with TensorFlow's option GZIP."
        )
    unpacker = zlib.decompressobj(wbits=31)  # GZIP, with its checksum
    try:
        data = unpacker.decompress(packed, most)
    except zlib.error as error:
        raise RecordError(
            f"expected a GZIP file, found damaged data ({error}); get it again."
        ) from error
    if len(data) == most:
        raise RecordError(too_large)
    if not unpacker.eof:
        raise RecordError(
            f"expected a whole GZIP file, found one that is cut short after {len(packed)} bytes; "
            "get it again."
        )
    # A TFRecord: length (8 bytes), its CRC (4), the data, their CRC (4).
    length = int.from_bytes(data[:8], "little")
    more = len(data) - 16 - length + len(unpacker.unused_data)
    if len(data) < 16 or length > len(data) - 16:
        raise RecordError(
            f"expected a TFRecord, found {len(data)} bytes of something else; the file was not "
            "written as a TFRecord, or its writer was interrupted."
        )
    if more:
        raise RecordError(
            f"expected one example, found {more} more bytes after it; write each sample to a file "
            "of its own."
        )
    return data[12 : 12 + length]


def _parse(file_name: str, payload: bytes) -> Sample:
    """Make a sample of the bytes of an example and the name of its file, and check both."""
    match = NAME.fullmatch(file_name)
    if not match:
        raise RecordError(
            "expected a file name 4d_mixed_#<sample id>_<number of cavities>_<edge>.tfrecords; "
            "rename the file, or write it with write_sample."
        )
    sample_id, count, edge = map(int, match.groups())
    frames, betti, objects = (np.frombuffer(value, np.uint8).copy() for value in _values(payload))
    if edge < 1 or frames.size == 0 or frames.size % edge**3:
        raise RecordError(
            f"expected object4d of T x {edge} x {edge} x {edge} bytes (the name ends in _{edge}), "
            f"found {frames.size} bytes; the name or the content is wrong."
        )
    sample = Sample(frames.reshape(-1, edge, edge, edge), betti, objects, sample_id=sample_id)
    if problem := _problem(sample):
        raise RecordError(problem)
    if count != betti[3]:
        raise RecordError(
            f"expected {count} cavities as the file name says, found {betti[3]} in the labels; "
            "the name or the content is wrong."
        )
    return sample


def _values(payload: bytes) -> list[bytes]:
    """Take the three features out of an example."""
    from google.protobuf.message import DecodeError

    try:
        features = tensorflow().train.Example.FromString(payload).features.feature
    except DecodeError as error:
        raise RecordError(
            "expected a tf.train.Example, found a record of something else."
        ) from error
    if set(features) != set(FEATURES):
        raise RecordError(
            f"expected the features {', '.join(FEATURES)}, found "
            f"{', '.join(sorted(features)) or 'none'}; write the file with write_sample."
        )
    found = [features[name] for name in FEATURES]
    for name, each in zip(FEATURES, found):
        if len(each.bytes_list.value) != 1:
            raise RecordError(
                f"expected {name} to be a bytes_list with one value, found "
                f"{each.WhichOneof('kind') or 'nothing'} with {len(each.bytes_list.value)} of "
                "them; store the raw uint8 buffer."
            )
    return [each.bytes_list.value[0] for each in found]


def _problem(sample: Sample) -> str | None:
    """Say what is wrong with a sample of plain arrays, or None."""
    number = sample.sample_id
    if not isinstance(number, (int, np.integer)) or not 0 <= number < 2**63:
        return f"expected a sample id from 0 to 2^63 - 1, found {number!r}; give it another one."
    frames = sample.frames
    known = frames.dtype in (np.uint8, np.bool_) and frames.ndim == 4
    if not known or len(set(frames.shape[1:])) > 1 or not 0 < frames.size <= LIMIT:
        return (
            "expected frames uint8 (T, D, H, W) with D = H = W, at least one frame and at most "
            f"{LIMIT} voxels, found {frames.dtype} {frames.shape}; the format knows no other."
        )
    if frames.max() > 1:
        return (
            f"expected voxels of 0 and 1, found {frames.max()}; 1 means inside a cavity: threshold "
            "the frames first."
        )
    for name, label in zip(FEATURES[1:], (sample.betti, sample.objects)):
        if label.shape != (4,) or label.dtype != np.uint8:
            return f"expected {name} as uint8 (4,), found {label.dtype} {label.shape}."
    if all(np.array_equal(label, UNLABELLED) for label in (sample.betti, sample.objects)):
        return None
    try:
        betti = betti_numbers(sample.objects).tolist()
    except ValueError as error:
        return str(error)
    if betti != sample.betti.tolist():
        return (
            f"expected Betti numbers {betti} for the cavities {sample.objects.tolist()}, found "
            f"{sample.betti.tolist()}; betti = [1, n2+n3, n1+2·n3, n0+n1+n2+n3] must hold."
        )
    return None
