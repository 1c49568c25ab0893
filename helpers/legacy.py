"""The thesis's own trained ConvLSTM: its arrays read safely, its figures computed again.

From the command line, `python -m helpers.legacy --help`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import _checks, _files, convlstm, evaluation, records, training, workshop
from helpers.sequences import THESIS_FORMATS, FrameFormat

MODEL = "ConvLSTM3D of the thesis"
FORMATS = {found.name: found for found in THESIS_FORMATS}

FILE_NAME = "convlstm3d_16_{}.h5"
# SHA-256 of the author's three files, by format.
DIGESTS = {
    "T20_TINC1": "a1a2324bf5ba60925ca6dc60dd98ad25c68afe023165a8064825b23221c3ceb8",
    "T40_TINC2": "208d5b986094bf6c332894f44daf1fcdc5e0799d4a9ac8c96c12dff2502cd811",
    "T80_TINC4": "e1f2313d8e35d847941a3325a55ac75096a4e11b7b6b2d403822486be14154b8",
}
# The thesis starts a rollout from five frames and drops the oldest one for each that it forecasts.
HISTORY, HORIZON, KEEP = 5, 5, 5

_CONVOLUTION = {"padding": "same", "strides": [1, 1, 1], "dilation_rate": [1, 1, 1]}
_MEMORY = {
    **_CONVOLUTION,
    "class_name": "ConvLSTM3D",
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
    "go_backwards": False,
    "return_sequences": True,
}
_NORM = {"class_name": "BatchNormalization", "epsilon": 0.001}
# The layers that the file must describe, and of each what its arrays do not tell.
LAYERS = {
    "input_1": {"class_name": "InputLayer"},
    "conv_lstm3d": _MEMORY,
    "batch_normalization": _NORM,
    "conv_lstm3d_1": _MEMORY,
    "batch_normalization_1": _NORM,
    "conv_lstm3d_2": _MEMORY,
    "conv3d": {**_CONVOLUTION, "class_name": "Conv3D", "activation": "sigmoid"},
}


def load_thesis_convlstm(path: str | Path, *, known: bool = True) -> convlstm.ConvLSTM:
    """Rebuild the thesis's ConvLSTM in today's Keras and give it the weights of the author's file.

    The file is a whole model saved by Keras 2.10. Such a file can carry code, and Keras 3 refuses
    it; here the network is built anew, and Keras's `load_weights` reads the 19 arrays and nothing
    else. The gates get Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1), which the weights were
    trained with.

    Args:
        path: `convlstm3d_16_<format>.h5` of the author's repository.
        known: take only the author's own three files, told by their SHA-256: one flipped bit in an
            array would go unnoticed otherwise. False reads any weights of this architecture.

    Returns:
        A model from (B, T, 16, 16, 16, 1), values 0…1, to the same shape: the probability of the
        frame after each one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not HDF5 or damaged, holds another model, or is another file than the
            author's.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    path = _existing(path)
    _check_architecture(path)
    if known and (found := _files.digest(path)) not in DIGESTS.values():
        raise ValueError(
            f"{path} is none of the author's three files: its SHA-256 is {found}. Fetch it again, "
            "or read other weights of this architecture by load_thesis_convlstm(path, known=False)."
        )
    theirs = _in_keras()
    try:
        theirs.load_weights(path)
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # h5py and Keras raise any
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from None
    ours = convlstm.build(convlstm.thesis())
    first, second, third = ours.memories
    layers = (first, ours.norms[0], second, ours.norms[1], third, ours.head)
    for mine, layer in zip(layers, theirs.layers, strict=True):
        mine.set_weights(layer.get_weights())
    return ours


def _in_keras():
    """Return the network in Keras's own layers: `load_weights` fills them in their order."""
    import keras

    def memory(kernel):
        return keras.layers.ConvLSTM3D(32, kernel, padding="same", return_sequences=True)

    norm = keras.layers.BatchNormalization
    # Keras 3's Conv3D takes no sequences by itself.
    head = keras.layers.TimeDistributed(keras.layers.Conv3D(1, 5, padding="same"))
    frames = keras.Input((None, 16, 16, 16, 1))
    return keras.Sequential([frames, memory(5), norm(), memory(3), norm(), memory(1), head])


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not a file; expected one such as {FILE_NAME.format('T20_TINC1')} from the "
            "author's repository."
        )
    return path


def _check_architecture(path: Path) -> None:
    """Refuse files of other models before any array is read."""
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file; was the download complete?")
    try:
        with h5py.File(path, "r") as file:
            description = file.attrs.get("model_config")
    except (OSError, KeyError, RuntimeError) as error:  # h5py raises any of them for damage
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from None
    expected = f"{path} does not hold the ConvLSTM of the thesis: "
    try:
        layers = json.loads(description)["config"]["layers"]
        found = [{**layer["config"], "class_name": layer["class_name"]} for layer in layers]
        names = [str(layer["name"]) for layer in found]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{expected}its model description is missing or unreadable.") from None
    if names != list(LAYERS):
        raise ValueError(
            f"{expected}its layers are {', '.join(names)}; expected {', '.join(LAYERS)}."
        )
    for layer, settings in zip(found, LAYERS.values()):
        for key, value in settings.items():
            if layer.get(key) != value:
                raise ValueError(
                    f"{expected}{key} of its layer {layer['name']} is {layer.get(key)!r}; "
                    f"expected {value!r}."
                )


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

    About 4 s for each sample on one core, so an hour or so for 1,000. Two CSV files in the folder,
    `<format>_pooled.csv` and `<format>_rollout.csv`, receive the results after each block of
    samples. A folder is for one set of records; `<format>_weights.json` in it says which weights
    the results are of.

    Args:
        weights: the folder of the author's HDF5 files, or one of them.
        data: a folder in thesis layout; its test split is used, files sorted by name.
        frame_format: one of the three of the thesis.
        folder: where the results go, made where it is missing.
        limit: only the first so many samples.
        at_once: samples in a block, at least 1.

    Returns:
        Of these samples, the tables of `helpers.evaluation.next_frame` (pooled) and `long_term`
        (five frames observed, five forecast, probabilities fed back, only the last five kept).

    Raises:
        FileNotFoundError, ValueError: see `load_thesis_convlstm`, `helpers.records.read_sample`
            and `helpers.evaluation.load`; the folder holds results of other weights.
    """
    folder, at_once = Path(folder), _checks.whole("at_once", at_once, 1)
    paths = {
        _sample_id(path): path
        for path in records.record_paths(Path(data) / workshop.SPLITS["test"], limit)
    }
    weights = _weights_file(weights, frame_format)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{frame_format.name}_{kind}.csv" for kind in ("pooled", "rollout")]
    blocks = _finished(files)
    done = set(blocks[0][0]["sample"]) if blocks else set()
    todo = [path for number, path in paths.items() if number not in done]
    if todo:
        forecaster = convlstm.forecaster(load_thesis_convlstm(weights), MODEL)
    _check_weights(folder / f"{frame_format.name}_weights.json", weights)
    for start in tqdm(range(0, len(todo), at_once), desc=frame_format.name, disable=not todo):
        blocks.append(_judge(forecaster, frame_format, todo[start : start + at_once]))
        for file, parts in zip(files, zip(*blocks)):
            evaluation.save(evaluation.combine(*parts), file)
    tables = (evaluation.combine(*parts) for parts in zip(*blocks))
    return tuple(evaluation.checked(table[table["sample"].isin(paths)]) for table in tables)


def _weights_file(weights: str | Path, frame_format: FrameFormat) -> Path:
    """Find the file of a format in a folder; a file is taken as it is."""
    weights = Path(weights)
    if weights.is_dir():
        weights = weights / FILE_NAME.format(frame_format.name)
    return _existing(weights)


def _check_weights(note: Path, weights: Path) -> None:
    """Note which weights a folder's results are of, so that they never mix with others."""
    digest = _files.digest(weights)
    if not note.exists():
        note.write_text(json.dumps({"weights, sha256": digest}) + "\n")
    elif digest not in note.read_text():
        raise ValueError(
            f"{note.parent} holds results of other weights than {weights.name}: see {note.name}. "
            "Choose another folder."
        )


def _finished(files: list[Path]) -> list[tuple[pd.DataFrame, ...]]:
    """Read what earlier runs wrote: nothing, or one block with the samples of both files."""
    if not all(file.exists() for file in files):
        return []
    tables = [evaluation.load(file) for file in files]
    # A run killed between the two files has written its last samples to the first one only.
    done = set.intersection(*(set(table["sample"]) for table in tables))
    return [tuple(table[table["sample"].isin(done)] for table in tables)] if done else []


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
    match = records.NAME.fullmatch(path.name)
    if not match:
        raise ValueError(f"{path} is not named like a record, 4d_mixed_#…_….tfrecords.")
    return int(match[1])


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
    try:
        _reproduce(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _reproduce(options: argparse.Namespace) -> None:
    if not options.weights.is_dir():
        raise FileNotFoundError(f"{options.weights} is not a folder; expected that of the weights.")
    formats = [FORMATS[name] for name in dict.fromkeys(options.formats)]
    # All of them before the first, since a format takes an hour.
    files = [_weights_file(options.weights, found) for found in formats]
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
    tables = []
    for frame_format, file in zip(formats, files):
        tables += evaluate(file, options.data, frame_format, options.folder, limit=options.limit)
    found = report(tables)
    shown = found[found["measure"] == "prediction_jaccard"]
    print(shown.drop(columns=["model", "measure", "history"]).round(4).to_string(index=False))
    if options.report:
        found.round(6).to_csv(options.report, index=False)
        provenance = {
            "command": "python -m helpers.legacy WEIGHTS DATA FOLDER --report "
            + options.report.name,
            "weights, sha256": {file.name: _files.digest(file) for file in files},
            "data": f"the first {int(found['n'].max())} files of DATA's test split, by name",
            "intervals": "95 %, bootstrap over samples",
            "machine": training.machine(),
        }
        options.report.with_suffix(".json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
