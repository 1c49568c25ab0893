"""The thesis's weights: the author's files alone, each array in its place, with their gate."""

import h5py
import numpy as np
import pytest

from helpers import _files, convlstm, evaluation, records
from helpers.models import thesis
from helpers.sequences import T20_TINC1, THESIS_FORMATS
from helpers.workshop import tensorflow

tensorflow()
import keras  # noqa: E402

NORM = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (32,))


def memory(edge, channels):
    shapes = {"kernel": (*[edge] * 3, channels, 128), "recurrent_kernel": (*[edge] * 3, 32, 128)}
    return shapes | {"bias": (128,)}


SHAPES = {  # in the order of the network
    "conv_lstm3d": memory(5, 1),
    "batch_normalization": NORM,
    "conv_lstm3d_1": memory(3, 32),
    "batch_normalization_1": NORM,
    "conv_lstm3d_2": memory(1, 32),
    "conv3d": {"kernel": (5, 5, 5, 32, 1), "bias": (1,)},
}


def place(layer, name):
    return f"model_weights/{layer}/{layer}/{name}:0"


def assert_in_their_places(model, arrays):
    """See that each array of a file is that of its layer."""
    first, second, third = model.memories
    layers = (first, model.norms[0], second, model.norms[1], third, model.head)
    for (layer, shapes), ours in zip(SHAPES.items(), layers, strict=True):
        for name in shapes:
            np.testing.assert_array_equal(getattr(ours, name), arrays[place(layer, name)])


@pytest.fixture
def author_file(rng, tmp_path):
    """A file in the author's layout, with weights at random."""
    path = tmp_path / "convlstm3d_16_T20_TINC1.h5"
    with h5py.File(path, "w") as file:
        for layer, shapes in SHAPES.items():
            for name, shape in shapes.items():
                file[place(layer, name)] = np.abs(rng.normal(0, 0.05, shape)).astype(np.float32)
            names = [f"{layer}/{name}:0" for name in shapes]
            file["model_weights"][layer].attrs["weight_names"] = names
        file["model_weights"].attrs["layer_names"] = list(SHAPES)
    return path


def test_every_array_lands_in_its_place(author_file, monkeypatch):
    monkeypatch.setattr(_files, "digest", lambda path: thesis.DIGESTS["T20_TINC1"])
    model = thesis.load(author_file)
    with h5py.File(author_file) as file:
        assert_in_their_places(model, file)
    assert model.count_params() == 762_017 and model.config == convlstm.thesis()
    found = model(np.ones((1, 2, 16, 16, 16, 1)))
    assert found.shape == (1, 2, 16, 16, 16, 1) and found.dtype == "float32"


def test_another_file_than_the_author_s_is_not_even_opened(author_file, monkeypatch):
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ValueError, match="none of the author's three files"):
        thesis.load(author_file)
    with pytest.raises(FileNotFoundError, match="nowhere.h5 is not a file; expected one such as"):
        thesis.load(author_file.with_name("nowhere.h5"))


def test_the_two_hard_sigmoids_differ_by_a_twelfth():
    x = np.linspace(-5, 5, 100_001, dtype=np.float32)
    difference = np.asarray(convlstm.keras2_hard_sigmoid(x) - keras.activations.hard_sigmoid(x))
    assert difference.max() == pytest.approx(1 / 12, abs=1e-5)
    assert difference.min() == pytest.approx(-1 / 12, abs=1e-5)
    assert x[difference.argmax()] == pytest.approx(2.5, abs=1e-3)
    assert (difference[(np.abs(x) >= 3) | (x == 0)] == 0).all()
    assert convlstm.build(convlstm.thesis()).memories[0].gate == "keras2_hard_sigmoid"


# With the thesis's own files


@pytest.mark.parametrize("frame_format", THESIS_FORMATS, ids=lambda found: found.name)
def test_the_author_s_arrays_are_read_as_they_are(thesis_folder, frame_format):
    path = thesis_folder / "weights" / thesis.FILE_NAME.format(frame_format.name)
    with h5py.File(path) as file:
        assert_in_their_places(thesis.load(path), file)


def test_keras_3_s_hard_sigmoid_would_give_other_forecasts(thesis_folder):
    weights = thesis_folder / "weights" / thesis.FILE_NAME.format("T20_TINC1")
    split = thesis_folder / "data" / "02_4D_test_datasets"
    frames = T20_TINC1.select(records.read_sample(records.record_paths(split, 1)[0]).frames)[None]
    right, wrong = thesis.load(weights), thesis.load(weights)
    for memory in wrong.memories:
        memory._sigma = keras.activations.hard_sigmoid
    right, wrong = (
        evaluation.next_frame(convlstm.forecaster(model), frames)["prediction_jaccard"][0]
        for model in (right, wrong)
    )
    assert right == pytest.approx(0.0874, abs=1e-3) and wrong == pytest.approx(0.0949, abs=1e-3)
