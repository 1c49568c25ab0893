"""A set of generated samples, written in the layout of the thesis's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from helpers import _checks, _files, records
from helpers.workshop import SPLITS
from helpers.world.cavities import generate

MARK = "generated.json"


def write_sample_set(
    folder: str | Path,
    counts: Mapping[str, int],
    seed: int,
    *,
    processes: int = 1,
    overwrite: bool = False,
) -> Path:
    """Generate samples and write them as a folder in thesis layout; the folder appears when whole.

    Each split has its own seed, drawn from `seed`; ids run on over the splits. `generated.json`
    marks the folder as ours and says what was written.

    Args:
        counts: so many samples for each of `training`, `validation`, `test`.
        seed: of the whole set; the same seed gives the same files for any number of processes.
        processes: so many processes generate side by side.
        overwrite: replace a set that this function wrote, if nothing was added or changed.

    Raises:
        FileExistsError: the folder exists, and `overwrite` is False or it holds other things,
            which the message names.
        OSError: the folder cannot be written, or the disk is full.
    """
    folder, seed = Path(folder), _checks.whole("seed", seed, 0)
    counts = {split: _checks.whole(f"counts of {split}", counts.get(split), 0) for split in SPLITS}
    with _files.writing(folder, "choose another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not overwrite:
            raise FileExistsError(
                f"{folder}: the folder exists; choose another name, or ask to overwrite it."
            )
        if folder.exists() and (others := _others(folder)):
            raise FileExistsError(
                f"{folder}: the folder holds more than a set that was generated: {others}. Nothing "
                "was changed; move that away, or choose another name."
            )
        with _files.replacing_folder(folder) as temporary:
            first_id, digests = 0, {}
            for index, (split, name) in enumerate(SPLITS.items()):
                (temporary / name).mkdir()
                own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
                made = generate(counts[split], own_seed, processes=processes, first_id=first_id)
                for sample in records.bar(made, True, total=counts[split], desc=split):
                    records.write_sample(temporary / name, sample)
                first_id += counts[split]
                digests[split] = records.split_digest(temporary / name) if counts[split] else ""
            mark = {"seed": seed, "counts": counts, "digests": digests}
            _files.write_json(temporary / MARK, mark)
    return folder


def _others(folder: Path) -> str:
    """Name what in a folder was not written by `write_sample_set`; nothing if all of it was."""
    try:
        digests = _files.read_json(folder / MARK)["digests"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MARK}, its mark, is missing or damaged, so it may be your own"
    known = {MARK, *SPLITS.values()}
    found = [path for path in folder.iterdir() if path.name not in known]
    for split, name in SPLITS.items():
        inside = list((folder / name).glob("*"))
        others = [path for path in inside if not records.NAME.fullmatch(path.name)]
        found += others
        if not others and inside and records.split_digest(folder / name) != digests.get(split):
            found.append(folder / name / "records that were added, changed or removed")
    return ", ".join(os.path.relpath(path, folder) for path in found[:5])
