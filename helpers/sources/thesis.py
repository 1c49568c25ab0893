"""The records of the thesis: fetched from its author's repository, checked, and unpacked."""

from __future__ import annotations

import os
import platform
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

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
VERIFIED = "verified.json"
LARGEST = 2**26  # bytes of one record in the archive
ALL = 2**35  # bytes of all that is in it, unpacked


def download(
    folder: str | Path | None = None,
    *,
    address: str = ARCHIVE,
    digests: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the full thesis set from its author's repository, once, and return its folder.

    A split appears in the folder only when its digest is right. What is already there is not
    fetched again; its digest is checked once, and `verified.json` notes that it was right.

    Args:
        folder: where to put it; `cache_folder() / "thesis"` when None. Set `WORKSHOP_DATA` to the
            returned folder to work with it.
        address: of a tar.gz archive with the split folders at any depth.
        digests: `helpers.records.split_digest` of each wanted split by its name; `DIGESTS` when
            None.
        progress: show bars on stderr.

    Returns:
        A folder in thesis layout.

    Raises:
        ConnectionError: the archive cannot be fetched; the message says what to do by hand.
        RecordError: the archive is damaged or too large, or a digest is wrong; or a split folder
            that is already there holds something else: it is left as it is.
        ValueError: the address is none, or `digests` names an unknown split.
        OSError: the disk is full, or the folder cannot be written or locked.
        RuntimeError: this Python cannot unpack an archive safely.
    """
    folder = Path(folder or cache_folder() / "thesis").expanduser().resolve()
    digests = DIGESTS if digests is None else digests
    if unknown := [str(split) for split in digests if split not in SPLITS]:
        raise ValueError(
            f"digests: expected the splits {', '.join(SPLITS)}, found {', '.join(unknown)}."
        )
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError(f"address: expected one that starts with https://, found {address!r}.")
    if all(_is_verified(folder, split, digests[split]) for split in digests):
        return folder
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError(
            "To unpack an archive safely, Python 3.10.12, 3.11.4 or a later one is needed; this "
            f"is {platform.python_version()}. Update Python.\n{BY_HAND}"
        )
    with _files.writing(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        with _files.lock(folder / ".lock", REMEDY):
            missing = [split for split in digests if not _is_there(folder, split, digests[split])]
            if missing:
                _fill(folder, address, {split: digests[split] for split in missing}, progress)
    return folder


def _fill(folder: Path, address: str, digests: Mapping[str, str], progress: bool) -> None:
    """Fetch the archive and put its splits in place, or leave nothing behind."""
    work = folder / ".download"
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        archive = _fetch(address, work, progress)
        _unpack(archive, work, digests, progress)
        for split, expected in digests.items():
            found = _digest(work / SPLITS[split])
            if found != expected:
                raise RecordError(
                    f"the {split} split: expected digest {expected}, found {found}; nothing was "
                    f"kept. Try again; if it stays so, the published files have changed.\n{BY_HAND}"
                )
        for split, digest in digests.items():
            os.replace(work / SPLITS[split], folder / SPLITS[split])
            _note(folder, split, digest)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(address: str, work: Path, progress: bool) -> Path:
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        work, base_url="", registry={"archive": None}, urls={"archive": address}, retry_if_failed=2
    )
    # An archive that the server packs once more on its way would arrive unpacked.
    headers = {"User-Agent": "forecasting-4d", "Accept-Encoding": "identity"}
    fetch = pooch.HTTPDownloader(progress, chunk_size=1 << 18, headers=headers, timeout=60)
    try:
        return Path(store.fetch("archive", downloader=fetch))
    except RequestException as error:
        raise ConnectionError(
            f"{address}: expected an archive, found: {error}. Check the network and call "
            f"download() again.\n{BY_HAND}"
        ) from error


def _unpack(archive: Path, target: Path, splits: Iterable[str], progress: bool) -> None:
    """Write the records of the wanted splits into `target`, and nothing else of the archive."""
    wanted, size = {SPLITS[split] for split in splits}, 0
    for name in wanted:
        (target / name).mkdir()
    try:
        with (
            tarfile.open(archive, "r:gz") as tar,
            records.bar(None, progress, desc="unpack", unit="file") as shown,
        ):
            while (member := tar.next()) is not None:
                tar.members.clear()  # or it would keep a list of them all
                size += max(member.size, 0)
                place = PurePosixPath(member.name)
                is_record = len(place.parts) > 1 and place.parts[-2] in wanted
                is_record = is_record and bool(records.NAME.fullmatch(place.name))
                if size > ALL or (is_record and member.size > LARGEST):
                    raise ValueError(f"{member.name!r} is too large")
                if is_record:
                    tarfile.data_filter(member, target)  # no name that points elsewhere
                    if not member.isreg() or member.issparse():
                        raise ValueError(f"{member.name!r} is no plain file")
                    member = member.replace(name=f"{place.parts[-2]}/{place.name}", deep=False)
                    tar.extract(member, target, filter="data")
                shown.update()
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OSError) as error:
        if getattr(error, "errno", None):  # of the disk, not of the archive
            raise
        raise RecordError(
            f"the archive: expected a whole tar.gz file that can be trusted, found: {error}. "
            f"Nothing of it was kept; call download() again.\n{BY_HAND}"
        ) from error


def _is_there(folder: Path, split: str, expected: str) -> bool:
    """Say whether a split is there; check its digest once."""
    place = folder / SPLITS[split]
    if not place.exists():
        return False
    if not _is_verified(folder, split, expected):
        found = _digest(place)
        if found != expected:
            raise RecordError(
                f"{place}: expected the {split} split with digest {expected}, found {found}; it is "
                "another one, or a part of it. Nothing in it was changed: move it away and call "
                "download() again.",
                place,
            )
        _note(folder, split, expected)
    return True


def _digest(folder: Path) -> str:
    try:
        return records.split_digest(folder)
    except (FileNotFoundError, RecordError):
        return "no records"


def _is_verified(folder: Path, split: str, digest: str) -> bool:
    return _noted(folder).get(split) == digest and (folder / SPLITS[split]).is_dir()


def _note(folder: Path, split: str, digest: str) -> None:
    _files.write_json(folder / VERIFIED, _noted(folder) | {split: digest})


def _noted(folder: Path) -> dict[str, str]:
    try:
        found = _files.read_json(folder / VERIFIED)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
