"""The record format: read, write and check samples; the packed cache of a whole split.

One file is one sample: a GZIP-compressed TFRecord with one `tf.train.Example` of three bytes
features, each a raw uint8 buffer: `object4d` (T, D, H, W), `labelBetti` (4,), `labelObjs` (4,).
Where nobody has counted the cavities, all eight labels are 255, which no count gives: b0 is 1.
Command line: `python -m helpers {generate,validate,download} --help`.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from helpers import _checks, _files
from helpers.workshop import REMEDY, SPLITS, cache_folder, cores, tensorflow
from helpers.world.cavities import UNLABELLED, Sample, betti_numbers

FEATURES = ("object4d", "labelBetti", "labelObjs")
NAME = re.compile(r"4d_mixed_#(\d+)_(\d+)_(\d+)\.tfrecords")
LABELS = np.dtype([("betti", "u1", (4,)), ("objects", "u1", (4,)), ("sample_id", "<i8")])
PACKED_FILES = ("frames.bits", "labels.npy")
PACKED_FORMAT = 3
BATCH = 256


class RecordError(ValueError):
    """A record, a packed split or an archive is not what it must be."""


# Reading


def read_sample(path: str | Path) -> Sample:
    """Read one record and check all of it.

    The file name's last number is the edge of the grid, so D = H = W; the number of frames T
    follows from the size of `object4d`.

    Args:
        path: a file named `4d_mixed_#<sample id>_<number of cavities>_<edge>.tfrecords`.

    Returns:
        A `Sample`: `frames` uint8 (T, D, H, W) in {0, 1}, `betti` and `objects` uint8 (4,).

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file is damaged or no such TFRecord, holds a voxel other than 0 and 1, or
            its labels or its name disagree with its content.
    """
    path = Path(path)
    try:
        return _parsed(path.name, _payload(path))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def record_paths(folder: str | Path, limit: int | None = None) -> list[Path]:
    """List the records of one folder, sorted by name as plain text (so #10 comes before #2).

    Args:
        folder: one split's folder. Files that do not end in `.tfrecords` and hidden files are
            left out.
        limit: only the first so many.

    Raises:
        FileNotFoundError, RecordError: there is no such folder, or no record in it.
    """
    folder = Path(folder)
    if limit is not None:
        limit = _checks.whole("limit", limit, 1)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of records, found no such folder.")
    names = [name for name in os.listdir(folder) if name.endswith(".tfrecords")]
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise RecordError(
            f"{folder}: expected files named 4d_mixed_#…_….tfrecords, found none; give one of the "
            f"folders {', '.join(SPLITS.values())}."
        )
    return [folder / name for name in names[:limit]]


def read_folder(folder: str | Path, *, limit: int | None = None) -> list[Sample]:
    """Read what `record_paths` lists; all have frames of the shape of the first.

    The first bad file is a `RecordError`; `python -m helpers validate` names all.
    """
    samples = []
    for found in read_each(record_paths(folder, limit)):
        if isinstance(found, RecordError):
            raise found
        samples.append(found)
    return samples


def read_each(
    paths: list[Path], convert: Callable[[Sample], Any] = lambda sample: sample
) -> Iterator[Any]:
    """Read files some at a time, so that a split need not fit into memory.

    Args:
        paths: the files; all must have frames of the shape of the first good one.
        convert: what to make of each `Sample`; it runs in the reading threads.

    Yields:
        What `convert` made of each file, or the `RecordError` of a bad one.
    """
    tensorflow()  # before the threads

    def read(path: Path) -> tuple[tuple[int, ...], Any]:
        try:
            sample = read_sample(path)
        except RecordError as error:
            return (), error
        except FileNotFoundError as error:  # it is gone since it was listed
            return (), RecordError(str(error))
        return sample.frames.shape, convert(sample)

    expected = None
    with ThreadPoolExecutor(min(8, cores())) as pool:
        for start in range(0, len(paths), BATCH):
            chosen = paths[start : start + BATCH]
            done = list(pool.map(read, chosen))  # so that nothing is under way if nobody goes on
            for path, (shape, found) in zip(chosen, done):
                if shape and shape != (expected := expected or shape):
                    found = RecordError(
                        f"{path}: expected frames of shape {expected} as in the records before it, "
                        f"found {shape}; keep records of different sizes in different folders."
                    )
                yield found


def _payload(path: Path) -> bytes:
    """Unpack a file and return the bytes of its only example.

    GZIP's checksum guards all of it, so those of the TFRecord inside are not computed again.
    """
    packed = path.read_bytes()
    try:
        data = gzip.decompress(packed)
    except EOFError:
        raise RecordError(
            f"expected a whole GZIP file, found one that is cut short after {len(packed)} bytes; "
            "get it again."
        ) from None
    except (OSError, zlib.error) as error:
        raise RecordError(
            f"expected a GZIP-compressed TFRecord, found damaged data or something else ({error}); "
            "get it again, or write it with write_sample."
        ) from error
    length = int.from_bytes(data[:8], "little")
    # A TFRecord: length (8 bytes), its checksum (4), the data, their checksum (4).
    if len(data) != 16 + length:
        raise RecordError(
            f"expected a TFRecord with one example, found {len(data)} bytes that are none; write "
            "each sample to a file of its own, with write_sample."
        )
    return data[12:-4]


def _parsed(file_name: str, payload: bytes) -> Sample:
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
    _check(sample)
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
    found = {name: list(each.bytes_list.value) for name, each in features.items()}
    if set(found) != set(FEATURES) or any(len(values) != 1 for values in found.values()):
        told = ", ".join(f"{name} with {len(each)}" for name, each in sorted(found.items()))
        raise RecordError(
            f"expected the features {', '.join(FEATURES)}, each a bytes_list with one value, found "
            f"{told or 'none'}; write the file with write_sample."
        )
    return [found[name][0] for name in FEATURES]


def _check(sample: Sample) -> None:
    """See that a sample of plain arrays keeps the rules of the format."""
    frames = sample.frames
    known = frames.dtype in (np.uint8, np.bool_) and frames.ndim == 4 and frames.size
    if not known or len(set(frames.shape[1:])) > 1:
        raise RecordError(
            "expected frames uint8 (T, D, H, W) with D = H = W and at least one frame, found "
            f"{frames.dtype} {frames.shape}; the format knows no other."
        )
    if frames.max() > 1:
        raise RecordError(
            f"expected voxels of 0 and 1, found {frames.max()}; 1 means inside a cavity: threshold "
            "the frames first."
        )
    for name, label in zip(FEATURES[1:], (sample.betti, sample.objects)):
        if label.shape != (4,) or label.dtype != np.uint8:
            raise RecordError(f"expected {name} as uint8 (4,), found {label.dtype} {label.shape}.")
    if all(np.array_equal(label, UNLABELLED) for label in (sample.betti, sample.objects)):
        return
    try:
        betti = betti_numbers(sample.objects).tolist()
    except ValueError as error:  # too many cavities for 8 bits
        raise RecordError(str(error)) from error
    if betti != sample.betti.tolist():
        raise RecordError(
            f"expected Betti numbers {betti} for the cavities {sample.objects.tolist()}, found "
            f"{sample.betti.tolist()}; betti = [1, n2+n3, n1+2·n3, n0+n1+n2+n3] must hold."
        )


def split_digest(folder: str | Path) -> str:
    """Return one split's digest: SHA-256 of each record's name, NUL, and SHA-256 of its content."""
    digest = hashlib.sha256()
    for path in record_paths(folder):
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(_files.digest(path)))
    return digest.hexdigest()


# Writing


def write_sample(folder: str | Path, sample: Sample) -> Path:
    """Write one record that reads like the thesis's own into a folder, and return its path.

    The same sample gives the same bytes. The file appears under its name only when it is whole.

    Args:
        folder: where to put it; its name is `sample.file_name`.
        sample: `frames` uint8 (T, D, H, W) in {0, 1}, D = H = W; `betti`, `objects` uint8 (4,).

    Raises:
        RecordError: the sample breaks the rules of the format.
        OSError: the file cannot be written: the folder does not exist, or the disk is full.
    """
    folder, what = Path(folder), f"sample {sample.sample_id}"
    frames, betti, objects = (
        _checks.unmasked(f"{what}: {name}", getattr(sample, name))
        for name in ("frames", "betti", "objects")
    )
    sample = replace(sample, frames=frames, betti=betti, objects=objects)
    try:
        _check(sample)
    except RecordError as error:
        raise RecordError(f"{what}: {error}") from error
    tf, path = tensorflow(), folder / sample.file_name
    values = (sample.frames.astype(np.uint8, copy=False), sample.betti, sample.objects)
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
        for name, value in zip(FEATURES, values)
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    with _files.replacing_by(path) as temporary:
        try:
            with tf.io.TFRecordWriter(os.fsencode(temporary), "GZIP") as writer:
                writer.write(example.SerializeToString(deterministic=True))
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, f"{path}: it cannot be written: {error.message}") from error
    return path


# Packing a split


class PackedSplit:
    """One split, bit-packed and memory-mapped, as `packed` makes it.

    Opening it compares all of it with its checksums.

    Attributes:
        shape: (T, D, H, W) of each sample's frames.
        betti: uint8 (N, 4), Betti numbers b0..b3; None if not every sample has labels.
        objects: uint8 (N, 4), cavities of each kind; None if not every sample has labels.
        sample_id: int64 (N,).
        folder: where the cache lies.
        source: the folder it was packed from.
        checksum: SHA-256 of each of its files, by file name.

    Raises:
        RecordError: nothing is packed in the folder, what is there is damaged, or it was made by
            another version of the course.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            manifest = _files.read_json(self.folder / "manifest.json")
            if manifest["format"] != PACKED_FORMAT:
                raise RecordError(
                    f"{folder}: this packed split was made by another version of the course (its "
                    f"format is {manifest['format']}, ours {PACKED_FORMAT}); pack it again."
                )
            manifest = _files.unsealed(manifest)
            self.shape, self.source = tuple(manifest["shape"]), manifest["source"]
            self.checksum = manifest["checksum"]
            for name, expected in self.checksum.items():
                if _files.digest(self.folder / name) != expected:
                    raise ValueError(f"another checksum of {name}")
            labels = np.load(self.folder / "labels.npy")
            size = (len(labels), self.shape[0], math.ceil(math.prod(self.shape[1:]) / 8))
            # A plain view: indexing a np.memmap itself is slower.
            bits = np.memmap(self.folder / "frames.bits", np.uint8, "r", shape=size)
            self._bits = bits.view(np.ndarray)
        except RecordError:
            raise
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise RecordError(
                f"{folder}: the packed split is damaged: expected it as it was written, found "
                f"{error}; delete the folder and pack again."
            ) from error
        self.betti: np.ndarray | None
        self.objects: np.ndarray | None
        self.betti, self.objects, self.sample_id = (
            np.array(labels[name], order="C") for name in ("betti", "objects", "sample_id")
        )
        if (labels["betti"] == UNLABELLED).all(axis=1).any():
            self.betti = self.objects = None  # so that nobody takes 255 for a count

    def __len__(self) -> int:
        return len(self.sample_id)

    def frames(self, samples=slice(None), times=slice(None)) -> np.ndarray:
        """Unpack the chosen frames of the chosen samples.

        Args:
            samples: which samples: an index, a slice, a list or array (n,), or a mask (N,).
            times: which frames of them: the same, or an array (n, t) of each sample's own.

        Returns:
            uint8 (n, t, D, H, W) in {0, 1}.
        """
        rows = np.atleast_1d(np.arange(len(self))[samples])  # (n,)
        columns = np.atleast_1d(np.arange(self.shape[0])[times])  # (t,) or (n, t)
        bits = self._bits[rows[:, None], columns]  # (n, t, bytes)
        voxels = np.unpackbits(bits, axis=-1, count=math.prod(self.shape[1:]))
        return voxels.reshape(bits.shape[:2] + self.shape[1:])


def packed(
    folder: str | Path,
    cache: str | Path | None = None,
    *,
    limit: int | None = None,
    progress: bool = True,
) -> PackedSplit:
    """Open the packed cache of one split's folder; pack it first where that is needed.

    It is packed anew when a name, size or modification time in the folder has changed, when the
    cache is damaged, or when another version of the course made it. An old cache stays until the
    new one is complete. When two processes pack the same folder, one waits.

    Args:
        folder: one split's folder of records.
        cache: where caches are kept; `cache_folder() / "packed"` when None.
        limit: only the first so many files, sorted by name.
        progress: show a bar on stderr when it takes longer than a second.

    Raises:
        RecordError: the folder is empty, or a file is bad; `python -m helpers validate` names all.
        OSError: the disk is full, or the cache cannot be written or locked.
    """
    folder = Path(folder).resolve()
    paths = record_paths(folder, limit)
    cache = Path(cache) if cache else cache_folder() / "packed"
    key = _files.digest(os.fsencode(folder) + f"\0{limit}".encode())
    name = f"{folder.name}-{key[:12]}"
    fingerprint = _fingerprint(paths)
    entry = cache / f"{name}-{fingerprint[:12]}"
    split = _opened(entry)
    if split is None:
        with _files.writing(cache, REMEDY):
            cache.mkdir(parents=True, exist_ok=True)
            with _files.lock(cache / f"{name}.lock", REMEDY):
                # Another process may have packed while this one waited.
                split = _opened(entry) or _pack(paths, entry, progress)
                _clear(cache, f".{name}", entry)  # begun by a process that was killed
    # Whoever still reads an old cache keeps it; where that was in use, the next call removes it.
    _clear(cache, name, entry)
    return split


def _clear(cache: Path, begin: str, entry: Path) -> None:
    """Remove the folders in a cache whose names begin so, but for one."""
    for old in cache.iterdir():
        if old.is_dir() and old.name.startswith(begin) and old != entry:
            shutil.rmtree(old, ignore_errors=True)


def open_split(data: Path, split: str, limit: int | None = None) -> PackedSplit:
    """Open one split of a folder in thesis layout, whether it holds records or a packed split."""
    folder = data / SPLITS[split]
    if (folder / "manifest.json").exists():
        return PackedSplit(folder)
    return packed(folder, limit=limit)


def _opened(entry: Path) -> PackedSplit | None:
    """Open a packed split if it is there and good."""
    try:
        return PackedSplit(entry)
    except RecordError:
        return None


def _pack(paths: list[Path], entry: Path, progress: bool) -> PackedSplit:
    folder, labels, shape = paths[0].parent, [], None
    with _files.replacing_folder(entry) as place:
        # Written, not mapped: on a full disk a write fails, but a map kills the process.
        with open(place / "frames.bits", "wb") as file:
            found = read_each(paths, _bits)
            for each in bar(found, progress, total=len(paths), desc=folder.name):
                if isinstance(each, RecordError):
                    raise each
                shape, label, bits = each
                labels.append(label)
                file.write(bits)
        np.save(place / "labels.npy", np.concatenate(labels))
        manifest = {
            "format": PACKED_FORMAT,
            "source": str(folder),
            "shape": shape,
            "checksum": {name: _files.digest(place / name) for name in PACKED_FILES},
        }
        _files.write_json(place / "manifest.json", _files.sealed(manifest))
    return PackedSplit(entry)


def _bits(sample: Sample) -> tuple[tuple[int, ...], np.ndarray, bytes]:
    """Return the shape, the labels and the packed frames of one sample."""
    frames = sample.frames
    label = np.array([(sample.betti, sample.objects, sample.sample_id)], LABELS)
    bits = np.packbits(frames.reshape(len(frames), -1), axis=-1)  # (T, bytes)
    return frames.shape, label, bits.tobytes()


def _fingerprint(paths: list[Path]) -> str:
    """Return a SHA-256 over the format of the cache and each record's name, size and time."""
    digest = hashlib.sha256(f"{PACKED_FORMAT}\n".encode())
    for path in paths:
        status = path.stat()
        name = os.fsencode(path.name)
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def bar(items, progress: bool, **options) -> tqdm:
    """Return a progress bar; short work shows none, so that it leaves no trace in a notebook."""
    options = {"unit": "sample"} | options
    return tqdm(items, disable=not progress, delay=1, leave=False, **options)
