"""The thesis's own trained ConvLSTM: the arrays of the author's files, read safely."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import _files, convlstm

FILE_NAME = "convlstm3d_16_{}.h5"
# SHA-256 of the author's three files, by format.
DIGESTS = {
    "T20_TINC1": "a1a2324bf5ba60925ca6dc60dd98ad25c68afe023165a8064825b23221c3ceb8",
    "T40_TINC2": "208d5b986094bf6c332894f44daf1fcdc5e0799d4a9ac8c96c12dff2502cd811",
    "T80_TINC4": "e1f2313d8e35d847941a3325a55ac75096a4e11b7b6b2d403822486be14154b8",
}

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


def load(path: str | Path, *, known: bool = True) -> convlstm.ConvLSTM:
    """Rebuild the thesis's ConvLSTM in today's Keras and give it the weights of the author's file.

    The file is a whole model saved by Keras 2.10. Such a file can carry code, and Keras 3 refuses
    it; here the network is built anew, and Keras's `load_weights` reads the 19 arrays and nothing
    else. The gates get Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1), which the weights were
    trained with.

    Args:
        path: `convlstm3d_16_<format>.h5` of the author's repository.
        known: take only the author's own three files, told by their SHA-256: one flipped bit in an
            array would go unnoticed otherwise. False reads any weights of this architecture; open
            none that you do not trust: h5py below 3.15 brings an HDF5 that a file made for it can
            have write where it should not.

    Returns:
        A model from (B, T, 16, 16, 16, 1), values 0…1, to the same shape: the probability of the
        frame after each one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds another model, or is another file than the author's.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    path = existing(path)
    # Before anything is read of it: HDF5 itself is not safe against a file made to do harm.
    if known and (found := _files.digest(path)) not in DIGESTS.values():
        raise ValueError(
            f"{path} is none of the author's three files: its SHA-256 is {found}. Fetch it again, "
            "or read other weights of this architecture by load(path, known=False)."
        )
    _check_architecture(path)
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


def existing(path: str | Path) -> Path:
    """Return the path if there is such a file.

    Raises:
        FileNotFoundError: there is none.
    """
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
