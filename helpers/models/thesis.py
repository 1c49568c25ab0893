"""The thesis's own trained ConvLSTM: the arrays of the author's files, read safely."""

from __future__ import annotations

from pathlib import Path

from helpers import _files, convlstm

FILE_NAME = "convlstm3d_16_{}.h5"
# SHA-256 of the author's three files, by format.
DIGESTS = {
    "T20_TINC1": "a1a2324bf5ba60925ca6dc60dd98ad25c68afe023165a8064825b23221c3ceb8",
    "T40_TINC2": "208d5b986094bf6c332894f44daf1fcdc5e0799d4a9ac8c96c12dff2502cd811",
    "T80_TINC4": "e1f2313d8e35d847941a3325a55ac75096a4e11b7b6b2d403822486be14154b8",
}


def load(path: str | Path) -> convlstm.ConvLSTM:
    """Rebuild the thesis's ConvLSTM in today's Keras and give it the weights of the author's file.

    The file is a whole model saved by Keras 2.10. Such a file can carry code, and Keras 3 refuses
    it; here the network is built anew, and Keras's `load_weights` reads the 19 arrays and nothing
    else. The gates get Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1), which the weights were
    trained with. Only the author's own three files are taken, told by their SHA-256.

    Args:
        path: `convlstm3d_16_<format>.h5` of the author's repository.

    Returns:
        A model from (B, T, 16, 16, 16, 1), values 0…1, to the same shape: the probability of the
        frame after each one.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    path = existing(path)
    # Before anything is read of it: HDF5 itself is not safe against a file made to do harm.
    if (found := _files.digest(path)) not in DIGESTS.values():
        raise ValueError(
            f"{path} is none of the author's three files: its SHA-256 is {found}. Fetch it again."
        )
    theirs, ours = _in_keras(), convlstm.build(convlstm.thesis())
    theirs.load_weights(path)
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
    """Return the path if there is such a file; raise FileNotFoundError otherwise."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not a file; expected one such as {FILE_NAME.format('T20_TINC1')} from the "
            "author's repository."
        )
    return path
