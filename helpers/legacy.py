"""The thesis's own trained ConvLSTM: its arrays read safely, its figures computed again.

From the command line, `python -m helpers.legacy --help`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import convlstm, evaluation, records, training, workshop
from helpers.sequences import THESIS_FORMATS, FrameFormat

MODEL = "ConvLSTM3D of the thesis"
FORMATS = {found.name: found for found in THESIS_FORMATS}

FILE_NAME = "convlstm3d_16_{}.h5"
# The thesis starts a rollout from five frames and keeps the last ten.
HISTORY, HORIZON, KEEP = 5, 5, 10


def load_thesis_convlstm(path: str | Path) -> convlstm.ConvLSTM:
    """Rebuild the thesis's ConvLSTM in today's Keras and give it the weights of the author's file.

    The file is a whole model saved by Keras 2.10. Such a file can carry code, and Keras 3 refuses
    it; here only its 17 arrays are read. The gates get Keras 2's hard sigmoid,
    clip(0.2 x + 0.5, 0, 1), which the weights were trained with.

    Args:
        path: `convlstm3d_16_<format>.h5` of the author's repository.

    Returns:
        A model from (B, T, 16, 16, 16, 1), values 0…1, to the same shape: the probability of the
        frame after each one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not HDF5 or damaged, holds another model, lacks an array, or an array
            has another shape or type, refers to another file or holds NaN.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    path = Path(path)
    model = convlstm.build(convlstm.thesis())
    with _opened(path) as file:
        _check_architecture(path, file)
        for weights, names in _arrays(model):
            weights.assign(_read(path, file, names, tuple(weights.shape)))
    return model


def _arrays(model: convlstm.ConvLSTM) -> Iterator[tuple]:
    """Pair each weight of our model with the layer and the name that hold it in the file."""
    suffixes = ("", "_1", "_2")
    for suffix, memory in zip(suffixes, model.memories):
        for name in ("kernel", "recurrent_kernel", "bias"):
            yield getattr(memory, name), (f"conv_lstm3d{suffix}", name)
    for suffix, norm in zip(suffixes, model.norms):
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            yield getattr(norm, name), (f"batch_normalization{suffix}", name)
    for name in ("kernel", "bias"):
        yield getattr(model.head, name), ("conv3d", name)


@contextmanager
def _opened(path: Path):
    """Open an HDF5 file for reading and say clearly what is wrong with it."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; expected a file such as {FILE_NAME.format('T20_TINC1')} "
            "from the author's repository."
        )
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file; was the download complete?")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from None


def _check_architecture(path: Path, file) -> None:
    """Refuse files of other models before any array is read; the description is read as data."""
    expected = f"{path} holds no ConvLSTM of the thesis: "
    try:
        layers = {
            layer["config"]["name"]: layer["config"]
            for layer in json.loads(file.attrs["model_config"])["config"]["layers"]
        }
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{expected}its model description is missing or unreadable.") from None
    for name in ("conv_lstm3d", "conv_lstm3d_1", "conv_lstm3d_2"):
        if name not in layers:
            raise ValueError(f"{expected}layer {name!r} is missing; found {', '.join(layers)}.")
        found = (layers[name].get("activation"), layers[name].get("recurrent_activation"))
        if found != ("relu", "hard_sigmoid"):
            raise ValueError(
                f"{expected}layer {name!r} uses activation and gate {found}; expected "
                "('relu', 'hard_sigmoid')."
            )


def _read(path: Path, file, names: tuple[str, str], shape: tuple[int, ...]) -> np.ndarray:
    """Read one array, once it is known to be what it should be."""
    import h5py

    layer, name = names
    place = f"model_weights/{layer}/{layer}/{name}:0"
    group = file
    for part in place.split("/"):
        if part not in group:
            raise ValueError(f"{path}: the array {place} is missing.")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path}: {place} points elsewhere; only arrays in the file are read.")
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.is_virtual or group.external:
        raise ValueError(f"{path}: {place} is not an array held in the file itself.")
    if group.shape != shape or group.dtype.kind != "f":
        raise ValueError(
            f"{path}: {place} has shape {group.shape} and type {group.dtype}; expected {shape}, "
            "float32."
        )
    values = group[()]
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {place} holds NaN or infinite values.")
    return values


def evaluate(
    weights: str | Path,
    data: str | Path,
    frame_format: FrameFormat,
    folder: str | Path,
    *,
    limit: int | None = None,
    at_once: int = 25,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Do the thesis's evaluation of its ConvLSTM again, in one format, or go on where it stopped.

    About 0.8 s for each sample on two cores. Two CSV files in the folder, `<format>_pooled.csv`
    and `<format>_rollout.csv`, receive the results after each block of samples.

    Args:
        weights: the folder of the author's HDF5 files, or one of them.
        data: a folder in thesis layout; its test split is used, files sorted by name.
        frame_format: one of the three of the thesis.
        folder: where the results go, made where it is missing.
        limit: only the first so many samples.
        at_once: samples in a block.

    Returns:
        The tables of `helpers.evaluation.next_frame` (pooled) and `long_term` (five frames
        observed, five forecast, probabilities fed back, the last ten kept).

    Raises:
        FileNotFoundError, ValueError: see `load_thesis_convlstm`, `helpers.records.read_sample`
            and `helpers.evaluation.load`.
    """
    folder, weights = Path(folder), Path(weights)
    folder.mkdir(parents=True, exist_ok=True)
    paths = records.record_paths(Path(data) / workshop.SPLITS["test"], limit)
    files = [folder / f"{frame_format.name}_{kind}.csv" for kind in ("pooled", "rollout")]
    tables = [evaluation.load(file) if file.exists() else None for file in files]
    # The second file is written after the first, so it says how many samples are complete.
    done = set() if tables[1] is None else set(tables[1]["sample"])
    samples = [sample for path in paths if (sample := _sample_id(path)) not in done]
    todo = [path for path in paths if _sample_id(path) in set(samples)]
    if todo:
        if weights.is_dir():
            weights = weights / FILE_NAME.format(frame_format.name)
        forecaster = convlstm.forecaster(load_thesis_convlstm(weights), MODEL)
    for start in tqdm(range(0, len(todo), at_once), desc=frame_format.name, disable=not todo):
        found = _judge(forecaster, frame_format, todo[start : start + at_once])
        for number, (file, new) in enumerate(zip(files, found)):
            old = tables[number]
            if old is not None:
                # A run killed between the two files has some samples in the first one only.
                old = old[~old["sample"].isin(new["sample"])]
            tables[number] = new if old is None else evaluation.combine(old, new)
            evaluation.save(tables[number], file)
    return tuple(tables)


def _judge(forecaster, frame_format: FrameFormat, paths: list[Path]) -> tuple:
    samples = [records.read_sample(path) for path in paths]
    frames = np.stack([frame_format.select(sample.frames) for sample in samples])
    options = {
        "frame_format": frame_format,
        "sample_id": [sample.sample_id for sample in samples],
    }
    rollouts = {"history": HISTORY, "horizon": HORIZON, "keep": KEEP}
    return (
        evaluation.next_frame(forecaster, frames, "pooled", **options),
        evaluation.long_term(forecaster, frames, **rollouts, **options),
    )


def _sample_id(path: Path) -> int:
    return int(path.name.split("#")[1].split("_")[0])


def report(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Set the means of tables from `evaluate` beside the figures that the thesis gives.

    Returns:
        The columns of `helpers.evaluation.beside_thesis`; one row for each format, protocol,
        horizon and measure.
    """
    return pd.concat([evaluation.beside_thesis(table) for table in tables], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reproduce the figures of the thesis's ConvLSTM from the author's weights and records."""
    parser = argparse.ArgumentParser(prog="python -m helpers.legacy", description=main.__doc__)
    parser.add_argument("weights", type=Path, help="the folder of convlstm3d_16_<format>.h5")
    parser.add_argument("data", type=Path, help="a folder in thesis layout; test is used")
    parser.add_argument("folder", type=Path, help="for the results by sample; resumes there")
    parser.add_argument("--limit", type=int, help="only the first so many samples")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--report", type=Path, help="CSV for the means, with a JSON beside it")
    options = parser.parse_args(arguments)
    tables, sources = [], {}
    for name in options.formats:
        tables += evaluate(
            options.weights, options.data, FORMATS[name], options.folder, limit=options.limit
        )
        file = options.weights / FILE_NAME.format(name)
        sources[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    found = report(tables)
    shown = found[found["measure"] == "prediction_jaccard"]
    print(shown.drop(columns=["model", "measure", "history"]).round(4).to_string(index=False))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        found.round(6).to_csv(options.report, index=False)
        provenance = {
            "command": "python -m helpers.legacy WEIGHTS DATA FOLDER --report "
            + options.report.name,
            "weights, sha256": sources,
            "data": f"the first {int(found['n'].max())} files of the thesis's test split, by name",
            "intervals": "95 %, bootstrap over samples",
            "machine": training.machine(),
        }
        options.report.with_suffix(".json").write_text(json.dumps(provenance, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
