"""The records of the thesis: fetched from its author's repository, checked, and unpacked."""

from __future__ import annotations

import os
import platform
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from helpers import _files, records
from helpers.records import RecordError
from helpers.workshop import REMEDY, SPLITS, cache_folder

REPOSITORY = "https://github.com/Marchine85/4D-Predictive-GAN-ConvLSTM"
COMMIT = "f2cfb35aa542d49198556bbd86a84e10dd472341"
ARCHIVE = f"https://codeload.github.com/Marchine85/4D-Predictive-GAN-ConvLSTM/tar.gz/{COMMIT}"
# Of what is in the records: the archive is made anew for each download and differs in its bytes.
DIGESTS = {
    "training": "e1d17e4404773593a6ff9961bd6be82bb3bc0280db6cb5b362f8e8689bbd5cb7",
    "validation": "2ddc028f1f3a8e0563083f17a16b5ca8eaeee3d36dfd7b865ffcb529aaca7d42",
    "test": "cf5495b721566dd7d1e53d780da0784f8a159efdf4d99ac245f6039cfecc4182",
}
BY_HAND = (
    f"By hand: git clone {REPOSITORY}, git checkout {COMMIT}, then set WORKSHOP_DATA to the "
    "clone's folder data."
)
LARGEST = 2**26  # bytes of one record


def download(folder: str | Path | None = None) -> Path:
    """Fetch the full thesis set from its author's repository, once, and return its folder.

    A split appears in the folder only when its digest is right. What is already there is checked
    in the same way and not fetched again.

    Args:
        folder: where to put it; `cache_folder() / "thesis"` when None. Set `WORKSHOP_DATA` to the
            returned folder to work with it.

    Raises:
        ConnectionError: the archive cannot be fetched; the message says what to do by hand.
        RecordError: the archive is damaged, or a digest is wrong; or a split folder that is already
            there holds something else: it is left as it is.
        OSError: the disk is full, or the folder cannot be written or locked.
        RuntimeError: this Python cannot unpack an archive safely.
    """
    folder = Path(folder or cache_folder() / "thesis").expanduser().resolve()
    with _files.writing(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        with _files.lock(folder / ".lock", REMEDY):
            missing = [split for split in SPLITS if not _is_there(folder, split)]
            work = folder / ".download"
            shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
            try:
                if missing:
                    _unpack(_fetch(work), work, missing)
                for split in missing:
                    found = _digest(work / SPLITS[split])
                    if found != DIGESTS[split]:
                        raise RecordError(
                            f"the {split} split: expected digest {DIGESTS[split]}, found {found}; "
                            "nothing was kept. Try again; if it stays so, the published files have "
                            f"changed.\n{BY_HAND}"
                        )
                for split in missing:
                    os.replace(work / SPLITS[split], folder / SPLITS[split])
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return folder


def _is_there(folder: Path, split: str) -> bool:
    place, expected = folder / SPLITS[split], DIGESTS[split]
    if place.exists() and (found := _digest(place)) != expected:
        raise RecordError(
            f"{place}: expected the {split} split with digest {expected}, found {found}; it is "
            "another one, or a part of it. Nothing in it was changed: move it away and call "
            "download() again."
        )
    return place.exists()


def _digest(folder: Path) -> str:
    try:
        return records.split_digest(folder)
    except (FileNotFoundError, RecordError):
        return "no records"


def _fetch(work: Path) -> Path:
    import pooch
    from requests.exceptions import RequestException

    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError(
            "To unpack an archive safely, Python 3.10.12, 3.11.4 or a later one is needed; this "
            f"is {platform.python_version()}. Update Python.\n{BY_HAND}"
        )
    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        work, base_url="", registry={"archive": None}, urls={"archive": ARCHIVE}, retry_if_failed=2
    )
    # An archive that the server packs once more on its way would arrive unpacked.
    headers = {"User-Agent": "forecasting-4d", "Accept-Encoding": "identity"}
    fetch = pooch.HTTPDownloader(True, chunk_size=1 << 18, headers=headers, timeout=60)
    try:
        return Path(store.fetch("archive", downloader=fetch))
    except RequestException as error:
        raise ConnectionError(
            f"{ARCHIVE}: expected an archive, found: {error}. Check the network and call "
            f"download() again.\n{BY_HAND}"
        ) from error


def _unpack(archive: Path, target: Path, splits: list[str]) -> None:
    """Write the records of the wanted splits into `target`, and nothing else of the archive."""
    wanted = {SPLITS[split] for split in splits}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in records.bar(tar, True, desc="unpack", unit="file"):
                place = PurePosixPath(member.name)
                if place.parent.name in wanted and records.NAME.fullmatch(place.name):
                    if not member.isreg() or member.size > LARGEST:
                        raise ValueError(f"{member.name!r} is no plain file, or too large")
                    # So it lands here, whatever its name says.
                    member = member.replace(name=f"{place.parent.name}/{place.name}", deep=False)
                    tar.extract(member, target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OSError) as error:
        if getattr(error, "errno", None):  # of the disk, not of the archive
            raise
        raise RecordError(
            f"the archive: expected a whole tar.gz file that can be trusted, found: {error}. "
            f"Nothing of it was kept; call download() again.\n{BY_HAND}"
        ) from error
