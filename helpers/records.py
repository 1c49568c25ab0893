"""The record format: read, write and check samples, pack whole splits, fetch the thesis's data.

One file is one sample: a GZIP-compressed TFRecord with one `tf.train.Example` of three bytes
features, each a raw uint8 buffer: `object4d` (T, D, H, W), `labelBetti` (4,), `labelObjs` (4,).
Command line: `python -m helpers.records {generate,validate,pack,download} --help`.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import hashlib
import http.client
import io
import json
import math
import operator
import os
import re
import shutil
import sqlite3
import ssl
import struct
import sys
import tarfile
import tokenize
import urllib.error
import urllib.parse
import urllib.request
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np
import platformdirs
from tqdm import tqdm

from helpers.cavities import Sample, generate
from helpers.workshop import SPLITS, tensorflow

FEATURES = ("object4d", "labelBetti", "labelObjs")
NAME = re.compile(r"4d_mixed_#(\d+)_(\d+)_(\d+)\.tfrecords")
LABELS = np.dtype([("betti", "u1", (4,)), ("objects", "u1", (4,)), ("sample_id", "<i8")])
PACKED_FILES = ("frames.npy", "labels.npy")
BATCH = 256
PACKED_FORMAT = 1

REPOSITORY = "https://github.com/Marchine85/4D-Predictive-GAN-ConvLSTM"
COMMIT = "f2cfb35aa542d49198556bbd86a84e10dd472341"
ARCHIVE = f"https://codeload.github.com/Marchine85/4D-Predictive-GAN-ConvLSTM/tar.gz/{COMMIT}"
DIGESTS = {
    "training": "e1d17e4404773593a6ff9961bd6be82bb3bc0280db6cb5b362f8e8689bbd5cb7",
    "validation": "2ddc028f1f3a8e0563083f17a16b5ca8eaeee3d36dfd7b865ffcb529aaca7d42",
    "test": "cf5495b721566dd7d1e53d780da0784f8a159efdf4d99ac245f6039cfecc4182",
}
INTERRUPTIONS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


class RecordError(ValueError):
    """A record, a packed split or an archive is not what it must be; `path` says which one."""

    def __init__(self, message: str, path: str | Path | None = None):
        super().__init__(message)
        self.path = path and Path(path)


class Samples(list):
    """A list of `Sample`; `skipped` holds one `RecordError` for each bad file left out."""

    skipped: tuple[RecordError, ...] = ()


# Reading one record


def read_sample(path: str | Path, *, shape: tuple[int, ...] | None = None) -> Sample:
    """Read one record and check all of it.

    The file name's last number is the edge of the grid, so D = H = W; the number of frames T
    follows from the size of `object4d`.

    Args:
        path: a file named `4d_mixed_#<sample id>_<number of cavities>_<edge>.tfrecords`.
        shape: the (T, D, H, W) that `frames` must have; any when None.

    Returns:
        A `Sample`: `frames` uint8 (T, D, H, W) in {0, 1}, `betti` and `objects` uint8 (4,).

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file is not GZIP, is cut short, is not a TFRecord, fails its CRC, does not
            hold exactly one example with exactly the three features of the right size, holds a
            voxel other than 0 or 1, or its labels or its name disagree with its content.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a record, found no such file; check the path.")
    with ThreadPoolExecutor(1) as pool:
        (found,) = _read_batch([path], pool, shape)
    if isinstance(found, RecordError):
        raise found
    return found


def validate(path: str | Path, *, shape: tuple[int, ...] | None = None) -> None:
    """Check one record completely; return nothing when it is good.

    Raises:
        FileNotFoundError, RecordError: as `read_sample`.
    """
    read_sample(path, shape=shape)


def record_paths(folder: str | Path, limit: int | None = None) -> list[Path]:
    """List the records of one folder, sorted by name as plain text (so #10 comes before #2).

    Args:
        folder: one split's folder. Files that do not end in `.tfrecords` and hidden files are
            left out.
        limit: only the first so many.

    Raises:
        FileNotFoundError: there is no such folder.
        RecordError: the folder holds no record.
        ValueError: the limit is below 1.
    """
    folder = Path(folder)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1, or None for all records.")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of records, found no such folder.")
    names = (name for name in os.listdir(folder) if name.endswith(".tfrecords"))
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise RecordError(
            f"{folder}: expected files named 4d_mixed_#…_….tfrecords, found none; give one of the "
            f"folders {', '.join(SPLITS.values())}.",
            folder,
        )
    return [folder / name for name in names[:limit]]


def read_folder(folder: str | Path, *, on_bad: str = "raise", limit: int | None = None) -> Samples:
    """Read the records of one folder, sorted by name as plain text.

    Args:
        folder: one split's folder.
        on_bad: `"raise"` stops at the first bad file; `"skip"` leaves bad files out, warns with
            their names and lists them in the result's `skipped`.
        limit: only the first so many files; a skipped one is not replaced.

    Returns:
        A list of `Sample`, all with frames of the shape of the first good one.

    Raises:
        FileNotFoundError, ValueError: as `record_paths`.
        RecordError: the folder is empty, a file is bad and `on_bad` is `"raise"`, or all are bad.
    """
    _check_on_bad(on_bad)
    samples, skipped = Samples(), []
    for batch in _read_all(record_paths(folder, limit), on_bad):
        for found in batch:
            (skipped if isinstance(found, RecordError) else samples).append(found)
    samples.skipped = tuple(skipped)
    _report_skipped(folder, skipped, len(samples))
    return samples


def _read_all(
    paths: list[Path], on_bad: str, convert: Callable = lambda sample: sample, shape=None
) -> Iterator[list]:
    """Yield one list per batch of files: what `convert` makes of each sample, or its RecordError.

    `convert` runs in the reading threads. With `on_bad="raise"` the first error is raised.
    """
    with ThreadPoolExecutor(_workers()) as pool:
        for start in range(0, len(paths), BATCH):
            chosen = paths[start : start + BATCH]
            if shape is None:
                shape = _first_shape(chosen, pool)
            batch = _read_batch(chosen, pool, shape, convert)
            errors = [found for found in batch if isinstance(found, RecordError)]
            if errors and on_bad == "raise":
                raise errors[0]
            yield batch


def _first_shape(paths: list[Path], pool: ThreadPoolExecutor) -> tuple[int, ...] | None:
    for path in paths:
        (found,) = _read_batch([path], pool, None)
        if not isinstance(found, RecordError):
            return found.frames.shape
    return None


def _read_batch(
    paths: list[Path],
    pool: ThreadPoolExecutor,
    shape: tuple[int, ...] | None,
    convert: Callable = lambda sample: sample,
) -> list:
    tensorflow()

    def read(path: Path):
        try:
            return convert(_parse(path, shape))
        except RecordError as error:
            return error

    batch = list(pool.map(read, paths))
    good = [index for index, found in enumerate(batch) if not isinstance(found, RecordError)]
    for index in _crc_failures(paths, good):
        batch[index] = RecordError(
            f"{paths[index]}: expected a TFRecord with matching checksums, found a CRC that does "
            "not match its data; the program that wrote the file is at fault: get or write it "
            "again.",
            paths[index],
        )
    return batch


def _crc_failures(paths: list[Path], indices: list[int]) -> list[int]:
    """Return those indices whose file TensorFlow's reader refuses, halving until they are found.

    One pass over many files costs 1 ms per file, a pass over a single one more than 20.
    """
    if not indices:
        return []
    tf = tensorflow()
    names = [str(paths[index]) for index in indices]
    records = tf.data.TFRecordDataset(names, compression_type="GZIP", num_parallel_reads=_workers())
    try:
        if int(records.reduce(np.int64(0), lambda count, _: count + 1)) == len(indices):
            return []
    except tf.errors.OpError:
        pass
    if len(indices) == 1:
        return indices
    half = len(indices) // 2
    return _crc_failures(paths, indices[:half]) + _crc_failures(paths, indices[half:])


def _parse(path: Path, shape: tuple[int, ...] | None) -> Sample:
    """Read and check one record, all but its CRC."""
    match = NAME.fullmatch(path.name)
    if not match:
        raise RecordError(
            f"{path}: expected a file name 4d_mixed_#<sample id>_<number of cavities>_<edge>"
            ".tfrecords; rename the file, or write it with write_sample.",
            path,
        )
    sample_id, count, edge = map(int, match.groups())
    values = _features(path, _payload(path))
    for name in FEATURES[1:]:
        if len(values[name]) != 4:
            raise RecordError(
                f"{path}: expected {name} of 4 bytes, found {len(values[name])}; the labels are "
                "raw uint8 buffers.",
                path,
            )
    size = len(values["object4d"])
    if edge < 1 or size == 0 or size % edge**3:
        raise RecordError(
            f"{path}: expected object4d of T x {edge} x {edge} x {edge} bytes (the name ends in "
            f"_{edge}), found {size} bytes; the name or the content is wrong.",
            path,
        )
    frames, betti, objects = (np.frombuffer(values[name], np.uint8).copy() for name in FEATURES)
    sample = Sample(frames.reshape(-1, edge, edge, edge), betti, objects, sample_id=sample_id)
    problem = _problem(sample, count, shape)
    if problem:
        raise RecordError(f"{path}: {problem}", path)
    return sample


def _payload(path: Path) -> bytes:
    """Unpack the file and return the bytes of its only example."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: the file cannot be read: {error}", path) from error
    if not packed:
        raise RecordError(f"{path}: expected a record, found an empty file; get it again.", path)
    if not packed.startswith(b"\x1f\x8b"):
        raise RecordError(
            f"{path}: expected a GZIP-compressed TFRecord, found a file that is not GZIP; write it "
            "with write_sample, or with TensorFlow's option GZIP.",
            path,
        )
    try:
        data = gzip.decompress(packed)
    except EOFError as error:
        raise RecordError(
            f"{path}: expected a whole GZIP file, found one that is cut short after "
            f"{len(packed)} bytes; get it again.",
            path,
        ) from error
    except (OSError, zlib.error, struct.error) as error:
        raise RecordError(
            f"{path}: expected a GZIP file, found damaged data ({error}); get it again.", path
        ) from error
    # A TFRecord: length (8 bytes), its CRC (4), the data, their CRC (4).
    length = int.from_bytes(data[:8], "little")
    if len(data) < 16 or length > len(data) - 16:
        raise RecordError(
            f"{path}: expected a TFRecord, found {len(data)} bytes of something else; the file "
            "was not written as a TFRecord, or its writer was interrupted.",
            path,
        )
    if length < len(data) - 16:
        raise RecordError(
            f"{path}: expected one example, found {len(data) - 16 - length} more bytes after it; "
            "write each sample to a file of its own.",
            path,
        )
    return data[12 : 12 + length]


def _features(path: Path, payload: bytes) -> dict[str, bytes]:
    from google.protobuf.message import DecodeError

    try:
        features = tensorflow().train.Example.FromString(payload).features.feature
    except DecodeError as error:
        raise RecordError(
            f"{path}: expected a tf.train.Example, found a record of something else.", path
        ) from error
    if set(features) != set(FEATURES):
        raise RecordError(
            f"{path}: expected the features {', '.join(FEATURES)}, found "
            f"{', '.join(sorted(features)) or 'none'}; write the file with write_sample.",
            path,
        )
    for name in FEATURES:
        kind = features[name].WhichOneof("kind") or "nothing"
        count = len(getattr(features[name], kind).value) if kind != "nothing" else 0
        if kind != "bytes_list" or count != 1:
            raise RecordError(
                f"{path}: expected {name} to be a bytes_list with one value, found {kind} with "
                f"{count}; store the raw uint8 buffer.",
                path,
            )
    return {name: features[name].bytes_list.value[0] for name in FEATURES}


def _problem(sample: Sample, count: int | None, shape: tuple[int, ...] | None) -> str | None:
    """Say what is wrong with a sample, or None. `count` is the number of cavities in its name."""
    for name in ("frames", "betti", "objects"):
        if not isinstance(getattr(sample, name), np.ndarray):
            return (
                f"expected {name} as a NumPy array of uint8, found "
                f"{type(getattr(sample, name)).__name__}; convert it with np.asarray(…, np.uint8)."
            )
    number = sample.sample_id
    if not isinstance(number, (int, np.integer)) or not 0 <= number < 2**63:
        return f"expected a sample id from 0 to 2^63 - 1, found {number!r}; give it another one."
    frames = sample.frames
    known = frames.dtype in (np.uint8, np.bool_) and frames.ndim == 4
    if not known or len(set(frames.shape[1:])) > 1:
        return (
            f"expected frames uint8 (T, D, H, W) with D = H = W, found {frames.dtype} "
            f"{frames.shape}; the format knows no other."
        )
    if frames.size == 0:
        return f"expected at least one frame with at least one voxel, found {frames.shape}."
    if shape is not None and frames.shape != tuple(shape):
        return (
            f"expected frames of shape {tuple(shape)} as in the records before it, found "
            f"{frames.shape}; keep records of different sizes in different folders."
        )
    if frames.max() > 1:
        return (
            f"expected voxels of 0 and 1, found {frames.max()}; 1 means inside a cavity: threshold "
            "the frames first."
        )
    for name in ("betti", "objects"):
        label = getattr(sample, name)
        if label.shape != (4,) or label.dtype != np.uint8:
            return f"expected {name} uint8 (4,), found {label.dtype} {label.shape}."
    n0, n1, n2, n3 = map(int, sample.objects)
    # Plain integers: uint8 sums would wrap and hide an error.
    betti = [1, n2 + n3, n1 + 2 * n3, n0 + n1 + n2 + n3]
    if betti != sample.betti.tolist():
        return (
            f"expected Betti numbers {betti} for the cavities {sample.objects.tolist()}, found "
            f"{sample.betti.tolist()}; betti = [1, n2+n3, n1+2·n3, n0+n1+n2+n3] must hold."
        )
    if count is not None and count != betti[3]:
        return (
            f"expected {count} cavities as the file name says, found {betti[3]} in the labels; "
            "the name or the content is wrong."
        )
    return None


def _check_on_bad(on_bad: str) -> None:
    if on_bad not in ("raise", "skip"):
        raise ValueError(f"on_bad is {on_bad!r}; choose 'raise' or 'skip'.")


def _report_skipped(folder: str | Path, problems: Sequence[RecordError], good: int) -> None:
    if not problems:
        return
    listed = "\n".join(f"  {problem}" for problem in problems[:10])
    listed += f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
    if not good:
        raise RecordError(f"{folder}: no record is good:\n{listed}", folder)
    warnings.warn(
        f"{folder}: {len(problems)} of {good + len(problems)} records are bad and were skipped:\n"
        f"{listed}",
        stacklevel=3,
    )


# Writing one record


def write_sample(path: str | Path, sample: Sample) -> Path:
    """Write one record that reads like the thesis's own, and return its path.

    The features are written in the order of their names, so the same sample gives the same bytes.
    The file appears under its name only when it is whole.

    Args:
        path: a folder, or a file in it with the name `sample.file_name`.
        sample: `frames` uint8 (T, D, H, W) in {0, 1}, D = H = W; `betti`, `objects` uint8 (4,).

    Raises:
        RecordError: the sample breaks the rules of the format, or the name is not its own.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    problem = _problem(sample, None, None)
    if problem:
        raise RecordError(f"sample {sample.sample_id}: {problem}")
    if path.suffix != ".tfrecords":
        path = path / sample.file_name
    if path.name != sample.file_name:
        raise RecordError(
            f"{path}: expected the name {sample.file_name}, which the sample's id, number of "
            "cavities and grid give; pass the folder and let write_sample name the file.",
            path,
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: expected a folder, found none; make it first.")
    tf = tensorflow()
    values = (sample.frames.astype(np.uint8, copy=False), sample.betti, sample.objects)
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
        for name, value in zip(FEATURES, values, strict=True)
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    with _whole_or_nothing(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary), options="GZIP") as writer:
                writer.write(example.SerializeToString(deterministic=True))
        except tf.errors.OpError as error:
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            raise OSError(
                errno.ENOSPC if full else errno.EIO,
                f"{path}: the record cannot be written: {error.message}",
            ) from error
    return path


def write_sample_set(
    folder: str | Path,
    counts: Mapping[str, int],
    seed: int,
    *,
    processes: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Generate samples and write them as a folder in thesis layout; the folder appears when whole.

    Each split has its own seed, drawn from `seed`; ids run on over the splits.

    Args:
        folder: the folder to make.
        counts: so many samples for each of `training`, `validation`, `test`.
        seed: of the whole set; the same seed gives the same files for any number of processes.
        processes: so many processes generate side by side.
        overwrite: replace a folder that holds nothing but the three split folders.

    Raises:
        ValueError: `counts` does not give 0 or more samples for each of the three splits.
        FileExistsError: the folder exists, and `overwrite` is False or it holds other things.
        OSError: the disk is full.
    """
    folder = Path(folder)
    _check_counts(counts)
    if folder.exists():
        others = set(os.listdir(folder)) - set(SPLITS.values()) if folder.is_dir() else {folder}
        if others or not overwrite:
            raise FileExistsError(
                f"{folder}: the folder exists"
                + (" and holds other things than a sample set" if others else "")
                + "; choose another name"
                + ("." if others else ", or ask to overwrite it.")
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _clear_full_disk(folder), _whole_or_nothing(folder) as temporary:
        first_id = 0
        for index, (split, name) in enumerate(SPLITS.items()):
            (temporary / name).mkdir(parents=True)
            own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
            samples = generate(counts[split], own_seed, processes=processes, first_id=first_id)
            for sample in _bar(samples, progress, total=counts[split], desc=split):
                write_sample(temporary / name, sample)
            first_id += counts[split]
    return folder


def _check_counts(counts: Mapping[str, int]) -> None:
    missing = [split for split in SPLITS if split not in counts]
    unknown = [str(split) for split in counts if split not in SPLITS]
    if missing or unknown:
        raise ValueError(
            f"counts: expected a number for each of {', '.join(SPLITS)}, found "
            + " and ".join(
                f"{', '.join(names)} {what}"
                for names, what in ((missing, "missing"), (unknown, "unknown"))
                if names
            )
            + "; give 0 for a split without samples."
        )
    for split, count in counts.items():
        if not isinstance(count, (int, np.integer)) or count < 0:
            raise ValueError(f"counts: expected 0 or more {split} samples, found {count!r}.")


# Packing a split


class PackedSplit:
    """One split, bit-packed and memory-mapped; opened by `packed`, `pack_samples`, `open_packed`.

    Attributes:
        shape: (T, D, H, W) of each sample's frames.
        betti: uint8 (N, 4), Betti numbers b0..b3.
        objects: uint8 (N, 4), cavities of each kind.
        sample_id: int64 (N,).
        skipped: one `RecordError` for each bad record that was left out.
        folder: where the cache lies.
        source: the folder (or the words) it was packed from.
        checksum: SHA-256 of each of its files, by file name.

    Raises:
        FileNotFoundError: nothing is packed in the folder.
        RecordError: what is there is damaged or of another format.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        manifest = _read_json(path)
        if manifest is None and not path.exists():
            raise FileNotFoundError(f"{folder}: expected a packed split, found no manifest.json.")
        if manifest is None:
            raise self._damaged("a manifest.json that is cut short or holds something else")
        if manifest.get("format") != PACKED_FORMAT:
            raise RecordError(
                f"{folder}: expected packed format {PACKED_FORMAT}, found "
                f"{manifest.get('format')}; delete the folder and pack again.",
                self.folder,
            )
        try:
            self._take(manifest)
            # These read nothing but .npy, where np.load takes other files for a pickle or a ZIP.
            frames, labels = (
                np.lib.format.open_memmap(self._data / name, mode="r") for name in PACKED_FILES
            )
        except KeyError as error:
            raise self._damaged(f"a manifest.json without {error}") from error
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise self._damaged(str(error)) from error
        except (SyntaxError, tokenize.TokenError) as error:
            # NumPy reads the header of a .npy file as Python.
            raise self._damaged(f"a file header that makes no sense ({error})") from error
        expected = (manifest["count"], self.shape[0], math.ceil(math.prod(self.shape[1:]) / 8))
        if frames.shape != expected or labels.shape != expected[:1]:
            raise self._damaged(f"arrays {frames.shape} and {labels.shape}, not {expected}")
        if frames.dtype != np.uint8 or labels.dtype != LABELS:
            raise self._damaged(f"frames of {frames.dtype} and labels of {labels.dtype}")
        # A plain view: indexing a np.memmap itself is slower.
        self._bits = frames.view(np.ndarray)
        self.betti, self.objects, self.sample_id = (
            np.array(labels[name], order="C", subok=False) for name in LABELS.names
        )

    def _take(self, manifest: dict) -> None:
        self._data = self.folder / manifest["data"]
        self.shape = tuple(map(operator.index, manifest["shape"]))
        if len(self.shape) != 4:
            raise ValueError(f"the shape {self.shape}")
        operator.index(manifest["count"])
        self.source, self.fingerprint = manifest["source"], manifest["fingerprint"]
        self.skipped = tuple(map(_from_note, manifest["skipped"]))
        self.checksum = {name: manifest["checksum"][name] for name in PACKED_FILES}

    def __len__(self) -> int:
        return len(self.sample_id)

    def __repr__(self) -> str:
        return f"PackedSplit({len(self)} samples of {self.shape} from {self.source})"

    def __reduce__(self):
        # To another process goes the place, not the data.
        return open_packed, (self.folder,)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample as `read_sample` would."""
        index = operator.index(index)
        frames = self.frames(index)[0]
        return Sample(
            frames,
            self.betti[index].copy(),
            self.objects[index].copy(),
            sample_id=int(self.sample_id[index]),
        )

    def frames(self, samples=slice(None), times=slice(None)) -> np.ndarray:
        """Unpack the chosen frames of the chosen samples.

        Args:
            samples: which samples: an index, a slice, a list or array (n,), or a mask (N,).
            times: which frames of them: the same, or an array (n, t) of each sample's own.

        Returns:
            uint8 (n, t, D, H, W) in {0, 1}.

        Raises:
            IndexError: an index lies outside the split or the sequence.
        """
        rows = np.atleast_1d(np.arange(len(self))[samples])  # (n,)
        columns = np.atleast_1d(np.arange(self.shape[0])[times])  # (t,) or (n, t)
        if columns.ndim == 2 and len(columns) != len(rows):
            raise IndexError(
                f"expected times (t,) or ({len(rows)}, t), one row per sample, found "
                f"{columns.shape}."
            )
        bits = self._bits[rows[:, None], columns]  # (n, t, bytes)
        voxels = np.unpackbits(bits, axis=-1, count=math.prod(self.shape[1:]))
        return voxels.reshape(bits.shape[:2] + self.shape[1:])

    def verify(self) -> None:
        """Read all of the cache and compare it with its checksum.

        Raises:
            RecordError: a file differs from what was packed.
        """
        for name, expected in self.checksum.items():
            if _sha256(self._data / name) != expected:
                raise self._damaged(f"another checksum of {name}")

    def _damaged(self, found: str) -> RecordError:
        return RecordError(
            f"{self.folder}: the packed split is damaged: expected it as it was written, found "
            f"{found}; delete the folder and pack again.",
            self.folder,
        )


def open_packed(folder: str | Path) -> PackedSplit:
    """Open a packed split by its own folder, whatever became of its source.

    Raises:
        FileNotFoundError, RecordError: as `PackedSplit`.
    """
    for _ in range(3):
        with suppress(FileNotFoundError, RecordError):
            return PackedSplit(folder)
        # A process that packs anew may have replaced the files between two looks at them.
    return PackedSplit(folder)


def packed(
    folder: str | Path,
    cache: str | Path | None = None,
    *,
    limit: int | None = None,
    on_bad: str = "raise",
    progress: bool = True,
) -> PackedSplit:
    """Open the packed cache of one split's folder; pack it first where it is missing or stale.

    The cache is stale when a name, size or modification time in the folder has changed. An old
    cache stays good until the new one is complete; one that cannot be opened is packed anew.
    Interrupted packing goes on where it was, as long as the folder is unchanged. When two
    processes pack the same folder, one waits.

    Args:
        folder: one split's folder of records.
        cache: where caches are kept; `cache_folder() / "packed"` when None.
        limit: only the first so many files, sorted by name.
        on_bad: `"raise"` stops at the first bad file; `"skip"` leaves bad files out, warns with
            their names and lists them in `skipped`.
        progress: show a bar on stderr when it takes longer than a second.

    Raises:
        FileNotFoundError, ValueError: as `record_paths`.
        RecordError: the folder is empty, or a file is bad and `on_bad` is `"raise"`.
        OSError: the disk is full; what is packed so far is kept.
    """
    _check_on_bad(on_bad)
    folder = Path(folder).resolve()
    paths = record_paths(folder, limit)
    key = hashlib.sha256(f"{folder}\0{limit}".encode()).hexdigest()[:12]
    entry = Path(cache or cache_folder() / "packed") / f"{folder.name}-{key}"
    fingerprint = _fingerprint(paths)
    split = _open_fresh(entry, fingerprint)
    if split is None:
        with _clear_full_disk(entry), _lock(entry):
            # Another process may have packed while this one waited.
            split = _open_fresh(entry, fingerprint)
            if split is None:
                split = _pack(paths, entry, fingerprint, on_bad, progress)
    if split.skipped and on_bad == "raise":
        raise split.skipped[0]
    _report_skipped(folder, split.skipped, len(split))
    return split


def pack_folder(
    folder: str | Path, cache: str | Path | None = None, **options
) -> dict[str, PackedSplit]:
    """Open or make the packed cache of each split of a folder in thesis layout.

    Args:
        folder: a folder with `SPLITS`' three folders; one that is missing is left out.
        cache, options: as in `packed`.

    Returns:
        One `PackedSplit` for each split, by its name (`training`, `validation`, `test`).

    Raises:
        FileNotFoundError: there is none of the split folders.
        FileNotFoundError, RecordError, OSError: as `packed`.
    """
    found = {split: Path(folder) / name for split, name in SPLITS.items()}
    found = {split: path for split, path in found.items() if path.is_dir()}
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected a folder with {', '.join(SPLITS.values())}, found none of them."
        )
    return {split: packed(path, cache, **options) for split, path in found.items()}


def pack_samples(
    samples: Iterable[Sample],
    folder: str | Path,
    *,
    source: str = "samples",
    total: int | None = None,
    progress: bool = True,
) -> PackedSplit:
    """Pack samples from any source, for example generated ones, and open the result.

    It replaces what is packed in the folder when it is complete; interrupted, it is discarded.

    Args:
        samples: all with frames of one shape.
        folder: the packed split's own folder, to open later with `open_packed`.
        source: words on where the samples come from.
        total: how many there are, for the progress bar only.

    Raises:
        RecordError: a sample breaks the rules of the format, shapes differ, or there are none.
        OSError: the disk is full.
    """
    folder = Path(folder)
    with _clear_full_disk(folder), _lock(folder), _Build(folder, uuid.uuid4().hex) as build:
        rows, shape = [], None
        for sample in _bar(samples, progress, total=total, desc="packing"):
            problem = _problem(sample, None, shape)
            if problem:
                raise RecordError(f"sample {sample.sample_id}: {problem}")
            shape = sample.frames.shape
            rows.append(_pack_sample(sample))
            if len(rows) == BATCH:
                build.append(rows, shape)
                rows = []
        if not build.rows and not rows:
            raise RecordError(f"{folder}: expected samples to pack, found none.", folder)
        build.append(rows, shape)
        return build.finish(source)


def cache_folder() -> Path:
    """Return the folder for caches and downloads: `WORKSHOP_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("WORKSHOP_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("forecasting-4d", appauthor=False))


def _pack(
    paths: list[Path], entry: Path, fingerprint: str, on_bad: str, progress: bool
) -> PackedSplit:
    folder = paths[0].parent
    with _Build(entry, fingerprint) as build:
        start = build.files
        batches = _read_all(paths[start:], on_bad, _pack_sample, build.shape)
        with _bar(None, progress, total=len(paths), initial=start, desc=folder.name) as bar:
            for batch in batches:
                good = [found for found in batch if not isinstance(found, RecordError)]
                build.skipped += [found for found in batch if isinstance(found, RecordError)]
                build.append(good, good[0][0] if good else None, files=len(batch))
                bar.update(len(batch))
        if not build.rows:
            _report_skipped(folder, build.skipped, 0)
        if _fingerprint(paths) != fingerprint:
            raise RecordError(
                f"{folder}: the records changed while they were packed; pack again when nothing "
                "writes to the folder.",
                folder,
            )
        return build.finish(str(folder))


def _pack_sample(sample: Sample) -> tuple[tuple[int, ...], bytes, bytes]:
    """Return the shape, the packed frames and the packed labels of one sample."""
    frames = sample.frames
    label = np.array([(sample.betti, sample.objects, sample.sample_id)], LABELS)
    bits = np.packbits(frames.reshape(len(frames), -1), axis=-1)  # (T, bytes)
    return frames.shape, bits.tobytes(), label.tobytes()


class _Build:
    """A packed split in the making: two growing .npy files and a journal of how far they are.

    The files are written to, not mapped: on a full disk a write fails, a map kills the process.
    """

    def __init__(self, entry: Path, fingerprint: str):
        self.entry, self.folder, self.fingerprint = entry, entry / "building", fingerprint
        self._open = {}
        self.files, self.rows, self.skipped, self.shape = 0, 0, [], None
        if not self._take_up():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.files, self.rows, self.skipped, self.shape = 0, 0, [], None
        self.folder.mkdir(parents=True, exist_ok=True)

    def _take_up(self) -> bool:
        """Go on from the journal if it belongs to this packing and all its rows are on disk."""
        journal = _read_json(self.folder / "journal.json") or {}
        if [journal.get("format"), journal.get("fingerprint")] != [PACKED_FORMAT, self.fingerprint]:
            return False
        try:
            self.files, self.rows = (operator.index(journal[name]) for name in ("files", "rows"))
            self.skipped = list(map(_from_note, journal["skipped"]))
            self.shape = journal["shape"] and tuple(map(operator.index, journal["shape"]))
            return self.rows == 0 or all(
                (self.folder / name).stat().st_size >= self._size(name) for name in PACKED_FILES
            )
        except (KeyError, TypeError, IndexError, FileNotFoundError):
            return False

    def __enter__(self) -> _Build:
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def append(self, rows: list[tuple], shape: tuple[int, ...] | None, files: int = 0) -> None:
        """Write the rows to disk, then note in the journal that they are there."""
        if self.shape is None and shape is not None:
            self.shape = shape
        for column, name in enumerate(PACKED_FILES, 1):
            if rows:
                file = self._file(name)
                file.write(b"".join(row[column] for row in rows))
                file.flush()
                os.fsync(file.fileno())
        self.rows, self.files = self.rows + len(rows), self.files + files
        journal = {"format": PACKED_FORMAT, "fingerprint": self.fingerprint, "shape": self.shape}
        journal |= {"files": self.files, "rows": self.rows, "skipped": self._notes()}
        _write_json(self.folder / "journal.json", journal)

    def finish(self, source: str) -> PackedSplit:
        """Complete the files, make them the current ones and remove those before."""
        for name in PACKED_FILES:
            file = self._file(name)
            file.seek(0)
            file.write(self._header(name, self.rows))
            file.flush()
            os.fsync(file.fileno())
        self._close()
        checksum = {name: _sha256(self.folder / name) for name in PACKED_FILES}
        data = f"{self.fingerprint[:12]}-{uuid.uuid4().hex[:8]}"
        os.replace(self.folder, self.entry / data)
        manifest = {"format": PACKED_FORMAT, "data": data, "source": source, "count": self.rows}
        manifest |= {"shape": self.shape, "checksum": checksum, "skipped": self._notes()}
        _write_json(self.entry / "manifest.json", manifest | {"fingerprint": self.fingerprint})
        for old in self.entry.iterdir():
            # A process that still reads old files keeps them; where the system refuses to remove
            # files in use, the next packing does it.
            if old.is_dir() and old.name != data:
                shutil.rmtree(old, ignore_errors=True)
        return PackedSplit(self.entry)

    def _file(self, name: str) -> io.BufferedRandom:
        """Open a file behind its last row in the journal; what lies beyond it is cut off."""
        if name not in self._open:
            path = self.folder / name
            path.touch()
            file = self._open[name] = open(path, "r+b")
            file.write(self._header(name, 0))
            file.truncate(self._size(name))
            file.seek(0, io.SEEK_END)
        return self._open[name]

    def _size(self, name: str) -> int:
        """Return the size in bytes of a file with the rows of the journal."""
        dtype, row = self._layout(name)
        return len(self._header(name, 0)) + self.rows * dtype.itemsize * math.prod(row)

    def _notes(self) -> list[dict[str, str]]:
        return [{"path": str(error.path), "message": str(error)} for error in self.skipped]

    def _layout(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        if name == "labels.npy":
            return LABELS, ()
        return np.dtype("u1"), (self.shape[0], math.ceil(math.prod(self.shape[1:]) / 8))

    def _header(self, name: str, rows: int) -> bytes:
        """Return the .npy header; NumPy leaves room in it, so its size is that of any count."""
        dtype, row = self._layout(name)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        written = io.BytesIO()
        np.lib.format.write_array_header_1_0(written, header | {"shape": (rows, *row)})
        return written.getvalue()

    def _close(self) -> None:
        for file in self._open.values():
            # What could not be written is not in the journal either.
            with suppress(OSError):
                file.close()
        self._open = {}


def _from_note(note: dict[str, str]) -> RecordError:
    return RecordError(note["message"], note["path"])


def _open_fresh(entry: Path, fingerprint: str) -> PackedSplit | None:
    try:
        split = open_packed(entry)
    except (FileNotFoundError, RecordError):
        return None
    return split if split.fingerprint == fingerprint else None


def _fingerprint(paths: list[Path]) -> str:
    """Return a SHA-256 over names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# Fetching the thesis's data


def download(
    folder: str | Path | None = None,
    *,
    address: str = ARCHIVE,
    digests: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the full thesis set from its author's repository, once, and return its folder.

    A split appears in the folder only when its digest is right. What is already there is not
    fetched again; its digest is checked once, and `verified.json` notes that it was right. An
    interrupted download goes on where it was if the server can do that.

    Args:
        folder: where to put it; `cache_folder() / "thesis"` when None. Set `WORKSHOP_DATA` to the
            returned folder to work with it.
        address: of a tar.gz archive with the split folders at any depth.
        digests: `split_digest` of each wanted split by its name; `DIGESTS` when None.
        progress: show bars on stderr.

    Returns:
        A folder in thesis layout.

    Raises:
        ConnectionError: the archive cannot be fetched; the message says what to do by hand.
        RecordError: the archive is damaged, points outside its folder, or a digest is wrong; or
            a split folder that is already there holds something else: it is left as it is.
        ValueError: the address is none, or `digests` names an unknown split.
        OSError: the disk is full.
    """
    folder = Path(folder or cache_folder() / "thesis").expanduser().resolve()
    digests = DIGESTS if digests is None else digests
    unknown = [str(split) for split in digests if split not in SPLITS]
    if unknown:
        raise ValueError(
            f"digests: expected the splits {', '.join(SPLITS)}, found {', '.join(unknown)}."
        )
    if urllib.parse.urlsplit(address).scheme not in ("http", "https", "file"):
        raise ValueError(f"address: expected one that starts with https://, found {address!r}.")
    if all(_is_verified(folder, split, digests[split]) for split in digests):
        return folder
    with _clear_full_disk(folder), _lock(folder):
        missing = _missing(folder, digests)
        if missing:
            work = folder / ".download"
            work.mkdir(exist_ok=True)
            archive = _fetch_archive(address, work, progress)
            try:
                _unpack(archive, work / "unpacked", missing, progress)
                for split in missing:
                    _check_digest(split, work / "unpacked" / SPLITS[split], digests[split])
            except RecordError:
                # The next call starts anew: a damaged archive does not become better.
                shutil.rmtree(work)
                raise
            for split in missing:
                os.replace(work / "unpacked" / SPLITS[split], folder / SPLITS[split])
                _note_verified(folder, split, digests[split])
            shutil.rmtree(work)
    return folder


def split_digest(folder: str | Path) -> str:
    """Return one split's digest: SHA-256 over each record's name, NUL, and SHA-256 of its content.

    Raises:
        FileNotFoundError, RecordError: as `record_paths`.
    """
    digest = hashlib.sha256()
    for path in record_paths(folder):
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(_sha256(path)))
    return digest.hexdigest()


def _missing(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Return the splits that are not there; check the digest of those that are, once."""
    missing = []
    for split, expected in digests.items():
        place = folder / SPLITS[split]
        if not place.exists():
            missing.append(split)
        elif not _is_verified(folder, split, expected):
            found = _found_digest(place)
            if found != expected:
                raise RecordError(
                    f"{place}: expected the {split} split with digest {expected}, found {found}; "
                    "it is another one, or a part of it. Nothing in it was changed: move it away "
                    "and call download() again.",
                    place,
                )
            _note_verified(folder, split, expected)
    return missing


def _is_verified(folder: Path, split: str, digest: str) -> bool:
    noted = _read_json(folder / "verified.json") or {}
    return noted.get(split) == digest and (folder / SPLITS[split]).is_dir()


def _note_verified(folder: Path, split: str, digest: str) -> None:
    noted = _read_json(folder / "verified.json") or {}
    _write_json(folder / "verified.json", noted | {split: digest})


def _found_digest(folder: Path) -> str:
    try:
        return split_digest(folder)
    except (FileNotFoundError, RecordError):
        return "no records"


def _check_digest(split: str, folder: Path, expected: str) -> None:
    found = _found_digest(folder)
    if found != expected:
        raise RecordError(
            f"the {split} split: expected digest {expected}, found {found}; nothing was kept. Try "
            f"again; if it stays so, the published files have changed.\n{_by_hand()}"
        )


def _by_hand() -> str:
    return (
        f"By hand: git clone {REPOSITORY}, git checkout {COMMIT}, then set WORKSHOP_DATA to the "
        "clone's folder data."
    )


def _fetch_archive(address: str, work: Path, progress: bool) -> Path:
    """Return the archive's path; fetch it, again and again as long as each try brings more."""
    archive, part = work / "archive.tar.gz", work / "archive.part"
    state = _read_json(work / "archive.json") or {}
    if state.get("address") != address:
        for stale in (archive, part):
            stale.unlink(missing_ok=True)
    while not archive.exists():
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(address, part, work / "archive.json", progress)
            os.replace(part, archive)
        except urllib.error.HTTPError as error:
            raise _unreachable(address, f"HTTP {error.code} {error.reason}") from error
        except INTERRUPTIONS as error:
            if not part.exists() or part.stat().st_size <= before:
                raise _unreachable(address, str(error) or type(error).__name__) from error
    return archive


def _unreachable(address: str, found: str) -> ConnectionError:
    return ConnectionError(
        f"{address}: expected an archive, found: {found}. Check the network and call download() "
        f"again; it goes on where it was if the server allows it.\n{_by_hand()}"
    )


def _fetch(address: str, part: Path, state_path: Path, progress: bool) -> None:
    """Fetch the rest of the archive into `part`, or all of it where the server gives no rest."""
    state = _read_json(state_path) or {}
    have = part.stat().st_size if part.exists() and state.get("validator") else 0
    request = urllib.request.Request(address, headers={"User-Agent": "forecasting-4d"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", state["validator"])
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return
        if error.code in (412, 416):
            part.unlink()
            return _fetch(address, part, state_path, progress)
        raise
    with response:
        # A strong ETag changes with the file; a weak one (W/…) must not be used to go on.
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        validator = "" if validator.startswith("W/") else validator
        if response.status == 206:
            start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if not start or int(start[1]) != have or validator != state["validator"]:
                part.unlink()
                return _fetch(address, part, state_path, progress)
        else:
            have = 0
            part.unlink(missing_ok=True)
            _write_json(state_path, {"address": address, "validator": validator})
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        options = {"desc": "download", "unit": "B", "unit_scale": True}
        bar = _bar(None, progress, total=total, initial=have, **options)
        with bar, open(part, "ab") as file:
            # read1 hands on what has come; read would drop it when the connection is cut.
            while block := response.read1(1 << 18):
                file.write(block)
                bar.update(len(block))
        size = part.stat().st_size
        if total is not None and size != total:
            raise ConnectionError(f"the connection ended after {size} of {total} bytes")


def _unpack(archive: Path, target: Path, splits: list[str], progress: bool) -> None:
    """Write the records of the wanted splits into `target`, and nothing else of the archive."""
    shutil.rmtree(target, ignore_errors=True)
    wanted = {SPLITS[split] for split in splits}
    for name in wanted:
        (target / name).mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in _bar(tar, progress, desc="unpack", unit="file"):
                place = PurePosixPath(member.name.replace("\\", "/"))
                if place.is_absolute() or ".." in place.parts:
                    raise RecordError(
                        f"{archive}: the member {member.name!r} points outside its folder; the "
                        "archive is not to be trusted and nothing of it was kept."
                    )
                if len(place.parts) < 2 or place.parts[-2] not in wanted:
                    continue
                if not NAME.fullmatch(place.name):
                    continue
                if not member.isreg():
                    raise RecordError(
                        f"{archive}: the member {member.name!r} is a link or a device, expected a "
                        "plain file; nothing of the archive was kept."
                    )
                with open(target / place.parts[-2] / place.name, "xb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileExistsError) as error:
        raise RecordError(
            f"{archive}: expected a whole tar.gz archive, found damaged data ({error}); call "
            f"download() again.\n{_by_hand()}"
        ) from error


# Small things that several of the above need


def _bar(items, progress: bool, **options) -> tqdm:
    # Short work shows no bar, so that it leaves no trace in a notebook.
    options = {"unit": "sample"} | options
    return tqdm(items, disable=not progress, delay=1, leave=False, **options)


def _workers() -> int:
    return min(8, os.cpu_count() or 1)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> dict | None:
    """Return the object that a small JSON file holds, or None when it is absent or damaged."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_json(path: Path, content: dict) -> None:
    with _whole_or_nothing(path) as temporary:
        temporary.write_text(json.dumps(content))


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is there at the end takes its place, or nothing."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            # A folder with content cannot be replaced in one step.
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            try:
                os.replace(path, old)
                os.replace(temporary, path)
            except BaseException:
                if old.exists() and not path.exists():
                    os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one process at a time; others wait, and can be interrupted.

    The lock is that of an empty SQLite file: it works on every system and ends with its process,
    even a killed one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, connection, told = folder / "lock.sqlite", None, False
    try:
        while True:
            try:
                if connection is None:
                    connection = sqlite3.connect(path, timeout=0.5, isolation_level=None)
                connection.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.Error as error:
                if "disk is full" in str(error):
                    raise OSError(errno.ENOSPC, str(error), str(path)) from error
                if "locked" not in str(error):
                    raise OSError(
                        f"{folder}: the folder cannot be locked: {error}. Check that you may write "
                        f"to it; delete {path.name} if it is damaged."
                    ) from error
                if not told:
                    warnings.warn(f"Another process works on {folder}; waiting.", stacklevel=4)
                told = True
        yield
    finally:
        if connection is not None:
            connection.close()


@contextmanager
def _clear_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise
        raise OSError(
            error.errno,
            f"{folder}: the disk is full. Nothing that was complete is lost; free some space, or "
            "set WORKSHOP_CACHE to a folder on another disk, and run the same again",
        ) from error


# The command line


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 when all is well, 1 when something is bad or missing.

    Wrong arguments end the program with 2, as argparse does.
    """
    chosen = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_: print(f"warning: {text}", file=sys.stderr)
            return chosen.run(chosen)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing that was complete is lost.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers.records", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("generate", help="make a sample set in thesis layout")
    command.add_argument("folder", type=Path)
    for split, count in (("training", 192), ("validation", 24), ("test", 24)):
        command.add_argument(f"--{split}", type=_count, default=count, help=f"samples ({count})")
    command.add_argument("--seed", type=_count, required=True)
    command.add_argument("--processes", type=_count, default=1)
    command.add_argument("--overwrite", action="store_true", help="replace an earlier sample set")
    command.set_defaults(run=_run_generate)
    command = commands.add_parser("validate", help="check records, or all records in folders")
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    command.set_defaults(run=_run_validate)
    command = commands.add_parser("pack", help="make the packed cache of a folder in thesis layout")
    command.add_argument("folder", type=Path)
    command.add_argument("--cache", type=Path, help="where caches are kept")
    command.add_argument("--skip-bad", action="store_true", help="leave bad records out")
    command.set_defaults(run=_run_pack)
    command = commands.add_parser("download", help="fetch the full thesis set")
    command.add_argument("folder", type=Path, nargs="?", help="default: the user's cache folder")
    command.set_defaults(run=_run_download)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {value}")
    return value


def _run_generate(chosen: argparse.Namespace) -> int:
    counts = {split: getattr(chosen, split) for split in SPLITS}
    folder = write_sample_set(
        chosen.folder,
        counts,
        chosen.seed,
        processes=chosen.processes,
        overwrite=chosen.overwrite,
    )
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    return 0


def _run_validate(chosen: argparse.Namespace) -> int:
    good, bad = 0, []
    for paths in _validation_groups(chosen.paths):
        options = {"total": len(paths), "desc": paths[0].parent.name, "unit": "file"}
        with _bar(None, True, **options) as bar:
            for batch in _read_all(paths, "skip"):
                errors = [found for found in batch if isinstance(found, RecordError)]
                good, bad = good + len(batch) - len(errors), bad + errors
                bar.update(len(batch))
    for error in bad:
        print(error, file=sys.stderr)
    print(f"{good} good, {len(bad)} bad")
    return 1 if bad else 0


def _validation_groups(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield lists of records: one per folder of records, one per single file."""
    for path in paths:
        splits = [path / name for name in SPLITS.values() if (path / name).is_dir()]
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a record or a folder, found nothing there.")
        if path.is_dir():
            yield from (record_paths(folder) for folder in splits or [path])
        else:
            yield [path]


def _run_pack(chosen: argparse.Namespace) -> int:
    on_bad = "skip" if chosen.skip_bad else "raise"
    for split, found in pack_folder(chosen.folder, chosen.cache, on_bad=on_bad).items():
        print(f"{split}: {len(found)} samples of {found.shape} in {found.folder}")
    return 0


def _run_download(chosen: argparse.Namespace) -> int:
    folder = download(chosen.folder)
    print(f"{folder}\nTo work with it: export WORKSHOP_DATA={folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
