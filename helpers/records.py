"""The record format: read, write and check samples; the packed cache of a whole split.

One file is one sample: a GZIP-compressed TFRecord with one `tf.train.Example` of three bytes
features, each a raw uint8 buffer: `object4d` (T, D, H, W), `labelBetti` (4,), `labelObjs` (4,).
Command line: `python -m helpers {generate,validate,pack,download} --help`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import operator
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from helpers import _checks, _files, _tfrecord
from helpers._tfrecord import FEATURES, NAME, RecordError, bad
from helpers.workshop import REMEDY, SPLITS, cache_folder, tensorflow
from helpers.world.cavities import Sample

__all__ = ["FEATURES", "NAME", "PackedSplit", "RecordError"]  # those that come from elsewhere

LABELS = np.dtype([("betti", "u1", (4,)), ("objects", "u1", (4,)), ("sample_id", "<i8")])
PACKED_FILES = ("frames.bits", "labels.npy")
PACKED_FORMAT = 2
BATCH = 256
ON_BAD = ("raise", "skip")


class Samples(list):
    """A list of `Sample`; `skipped` holds one `RecordError` for each bad file left out."""

    skipped: tuple[RecordError, ...] = ()


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
        RecordError: the file is not GZIP, is cut short, is not a TFRecord, fails its CRC, does not
            hold exactly one example with exactly the three features of the right size, holds a
            voxel other than 0 or 1, or more than `LIMIT` of them, or its labels or its name
            disagree with its content.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a record, found no such file; check the path.")
    ((sample,),) = read_batches([path])
    return sample


def record_paths(folder: str | Path, limit: int | None = None) -> list[Path]:
    """List the records of one folder, sorted by name as plain text (so #10 comes before #2).

    Args:
        folder: one split's folder. Files that do not end in `.tfrecords` and hidden files are
            left out.
        limit: only the first so many.

    Raises:
        FileNotFoundError: there is no such folder.
        RecordError: the folder holds no record.
        TypeError, ValueError: the limit is not a whole number of at least 1.
    """
    folder = Path(folder)
    if limit is not None:
        limit = _checks.whole("limit", limit, 1)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of records, found no such folder.")
    names = (name for name in os.listdir(folder) if name.endswith(".tfrecords"))
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise bad(
            folder,
            "expected files named 4d_mixed_#…_….tfrecords, found none; give one of the folders "
            f"{', '.join(SPLITS.values())}.",
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
        FileNotFoundError, TypeError, ValueError: as `record_paths`.
        RecordError: the folder is empty, a file is bad and `on_bad` is `"raise"`, or all are bad.
    """
    _checks.choice("on_bad", on_bad, ON_BAD)
    samples, skipped = Samples(), []
    for batch in read_batches(record_paths(folder, limit), on_bad):
        for found in batch:
            (skipped if isinstance(found, RecordError) else samples).append(found)
    samples.skipped = tuple(skipped)
    _report_skipped(folder, skipped, len(samples))
    return samples


def read_batches(
    paths: list[Path], on_bad: str = "raise", convert: Callable = lambda sample: sample
) -> Iterator[list]:
    """Read files one batch after the other, so that a split need not fit into memory.

    Args:
        paths: the files; all must have frames of the shape of the first good one.
        on_bad: `"raise"` stops at the first bad file; `"skip"` puts its error in its place.
        convert: what to make of each `Sample`; it runs in the reading threads.

    Yields:
        What `convert` made of each file of the batch, or its `RecordError`.
    """
    tensorflow()

    def read(path: Path) -> tuple[tuple[int, ...], Any] | RecordError:
        try:
            sample = _tfrecord.read(path)
        except RecordError as error:
            return error
        return sample.frames.shape, convert(sample)

    expected = None
    with ThreadPoolExecutor(_tfrecord.workers()) as pool:
        for start in range(0, len(paths), BATCH):
            chosen = paths[start : start + BATCH]
            found = dict(zip(chosen, pool.map(read, chosen)))
            parsed = [path for path, each in found.items() if not isinstance(each, RecordError)]
            refused = _tfrecord.refused(parsed)
            for path in parsed:
                shape, content = found[path]
                if path in refused:
                    content = bad(path, refused[path])
                elif shape != (expected := expected or shape):
                    content = bad(
                        path,
                        f"expected frames of shape {expected} as in the records before it, found "
                        f"{shape}; keep records of different sizes in different folders.",
                    )
                found[path] = content
            for each in found.values():
                if isinstance(each, RecordError) and on_bad == "raise":
                    raise each
            yield list(found.values())


def split_digest(folder: str | Path) -> str:
    """Return one split's digest: SHA-256 over each record's name, NUL, and SHA-256 of its content.

    Raises:
        FileNotFoundError, RecordError: as `record_paths`.
    """
    digest = hashlib.sha256()
    for path in record_paths(folder):
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(_files.digest(path)))
    return digest.hexdigest()


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


# Writing


def write_sample(folder: str | Path, sample: Sample) -> Path:
    """Write one record that reads like the thesis's own into a folder, and return its path.

    The same sample gives the same bytes. The file appears under its name only when it is whole.

    Args:
        folder: where to put it; its name is `sample.file_name`.
        sample: `frames` uint8 (T, D, H, W) in {0, 1}, D = H = W; `betti`, `objects` uint8 (4,).

    Raises:
        RecordError: the sample breaks the rules of the format.
        TypeError: voxels or labels are masked.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written, for example because the disk is full.
    """
    folder, sample = Path(folder), _tfrecord.checked(sample)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder, found none; make it first.")
    _tfrecord.write(folder / sample.file_name, sample)
    return folder / sample.file_name


# Packing a split


class PackedSplit:
    """One split, bit-packed and memory-mapped, as `packed` makes it.

    Opening it compares the labels with their checksum; `verify` does so with the frames.

    Attributes:
        shape: (T, D, H, W) of each sample's frames.
        betti: uint8 (N, 4), Betti numbers b0..b3.
        objects: uint8 (N, 4), cavities of each kind.
        sample_id: int64 (N,).
        skipped: one `RecordError` for each bad record that was left out.
        folder: where the cache lies.
        source: the folder it was packed from.
        checksum: SHA-256 of each of its files, by file name.

    Raises:
        FileNotFoundError: nothing is packed in the folder.
        RecordError: what is there is damaged, or was made by another version of the course.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder}: expected a packed split, found no {path.name}.")
        try:
            manifest = _files.read_json(path)
            found = manifest["format"]
            if found != PACKED_FORMAT:
                raise bad(
                    self.folder,
                    "this packed split was made by another version of the course (its format is "
                    f"{found}, ours {PACKED_FORMAT}); pack the records again.",
                )
            if manifest.pop("digest") != _manifest_digest(manifest):
                raise ValueError("a manifest.json that was changed")
            self.shape, self.source = tuple(manifest["shape"]), manifest["source"]
            self.skipped = tuple(RecordError(*note) for note in manifest["skipped"])
            self.checksum = manifest["checksum"]
            content = (self.folder / "labels.npy").read_bytes()
            if _files.digest(content) != self.checksum["labels.npy"]:
                raise ValueError("another checksum of labels.npy")
            labels = np.load(io.BytesIO(content))
            size = (len(labels), self.shape[0], math.ceil(math.prod(self.shape[1:]) / 8))
            frames = self.folder / "frames.bits"
            if frames.stat().st_size != math.prod(size):
                raise ValueError(f"{frames.stat().st_size} bytes of frames")
            # A plain view: indexing a np.memmap itself is slower.
            self._bits = np.memmap(frames, np.uint8, "r", shape=size).view(np.ndarray)
        except RecordError:
            raise
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise self._damaged(str(error)) from error
        self.betti, self.objects, self.sample_id = (
            np.array(labels[name], order="C") for name in LABELS.names
        )

    def __len__(self) -> int:
        return len(self.sample_id)

    def __repr__(self) -> str:
        return f"PackedSplit({len(self)} samples of {self.shape} from {self.source})"

    def __reduce__(self):
        # To another process goes the place, not the data.
        return PackedSplit, (self.folder,)

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
        """Read all frames and compare them with their checksum.

        Raises:
            RecordError: they differ from what was packed.
        """
        if _files.digest(self.folder / "frames.bits") != self.checksum["frames.bits"]:
            raise self._damaged("another checksum of frames.bits")

    def _damaged(self, found: str) -> RecordError:
        return bad(
            self.folder,
            f"the packed split is damaged: expected it as it was written, found {found}; delete "
            "the folder and pack again.",
        )


def packed(
    folder: str | Path,
    cache: str | Path | None = None,
    *,
    limit: int | None = None,
    on_bad: str = "raise",
    progress: bool = True,
) -> PackedSplit:
    """Open the packed cache of one split's folder; pack it first where that is needed.

    It is packed anew when a name, size or modification time in the folder has changed, when the
    cache is damaged, or when another version of the course made it. All of the cache is compared
    with its checksums. An old cache stays until the new one is complete. When two processes pack
    the same folder, one waits.

    Args:
        folder: one split's folder of records.
        cache: where caches are kept; `cache_folder() / "packed"` when None.
        limit: only the first so many files, sorted by name.
        on_bad: `"raise"` stops at the first bad file; `"skip"` leaves bad files out, warns with
            their names and lists them in `skipped`.
        progress: show a bar on stderr when it takes longer than a second.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `record_paths`.
        RecordError: the folder is empty, or a file is bad and `on_bad` is `"raise"`.
        OSError: the disk is full, or the cache cannot be written or locked.
    """
    _checks.choice("on_bad", on_bad, ON_BAD)
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
                split = _opened(entry) or _pack(paths, entry, fingerprint, on_bad, progress)
                # Whoever still reads an old cache keeps it; where the system refuses to remove
                # files in use, the next packing does it.
                for old in cache.iterdir():
                    ours = old.is_dir() and old.name.lstrip(".").startswith(name)
                    if ours and old != entry:
                        shutil.rmtree(old, ignore_errors=True)
    if split.skipped and on_bad == "raise":
        raise split.skipped[0]
    _report_skipped(folder, split.skipped, len(split))
    return split


def open_split(data: Path, split: str, limit: int | None = None) -> PackedSplit:
    """Open one split of a folder in thesis layout, whether it holds records or a packed split."""
    folder = data / SPLITS[split]
    if (folder / "manifest.json").exists():
        return PackedSplit(folder)
    return packed(folder, limit=limit)


def _opened(entry: Path) -> PackedSplit | None:
    """Open a packed split if it is there and all of it is good."""
    try:
        split = PackedSplit(entry)
        split.verify()
        return split
    except (FileNotFoundError, RecordError):
        return None


def _pack(
    paths: list[Path], entry: Path, fingerprint: str, on_bad: str, progress: bool
) -> PackedSplit:
    folder, labels, skipped, shape = paths[0].parent, [], [], None
    with _files.replacing_folder(entry) as place:
        # Written, not mapped: on a full disk a write fails, but a map kills the process.
        with (
            open(place / "frames.bits", "wb") as file,
            bar(None, progress, total=len(paths), desc=folder.name) as shown,
        ):
            for batch in read_batches(paths, on_bad, _bits):
                skipped += [found for found in batch if isinstance(found, RecordError)]
                for found in batch:
                    if not isinstance(found, RecordError):
                        shape, label, bits = found
                        labels.append(label)
                        file.write(bits)
                shown.update(len(batch))
        if not labels:
            _report_skipped(folder, skipped, 0)
        if _fingerprint(paths) != fingerprint:
            raise bad(
                folder,
                "the records changed while they were packed; pack again when nothing writes to "
                "the folder.",
            )
        np.save(place / "labels.npy", np.concatenate(labels))
        for name in PACKED_FILES:
            _files.sync(place / name)
        manifest = {
            "format": PACKED_FORMAT,
            "source": str(folder),
            "shape": shape,
            "skipped": [(str(error), str(error.path)) for error in skipped],
            "checksum": {name: _files.digest(place / name) for name in PACKED_FILES},
        }
        manifest["digest"] = _manifest_digest(manifest)
        _files.write_json(place / "manifest.json", manifest)
    return PackedSplit(entry)


def _bits(sample: Sample) -> tuple[tuple[int, ...], np.ndarray, bytes]:
    """Return the shape, the labels and the packed frames of one sample."""
    frames = sample.frames
    label = np.array([(sample.betti, sample.objects, sample.sample_id)], LABELS)
    bits = np.packbits(frames.reshape(len(frames), -1), axis=-1)  # (T, bytes)
    return frames.shape, label, bits.tobytes()


def _manifest_digest(manifest: dict) -> str:
    return _files.digest(json.dumps(manifest, sort_keys=True).encode())


def _fingerprint(paths: list[Path]) -> str:
    """Return a SHA-256 over the format of the cache and each record's name, size and time."""
    digest = hashlib.sha256(f"{PACKED_FORMAT}\n".encode())
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise bad(path, _tfrecord.VANISHED) from None
        name = os.fsencode(path.name)
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# Small things that several of the above need


def bar(items, progress: bool, **options) -> tqdm:
    """Return a progress bar; short work shows none, so that it leaves no trace in a notebook."""
    options = {"unit": "sample"} | options
    return tqdm(items, disable=not progress, delay=1, leave=False, **options)
