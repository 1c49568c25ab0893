"""The thesis's weights: read safely from files like the author's."""

import json
import marshal

import h5py
import numpy as np
import pytest

from helpers import _files, convlstm, evaluation, records
from helpers.models import thesis
from helpers.sequences import T20_TINC1, THESIS_FORMATS
from helpers.workshop import tensorflow

tensorflow()
import keras  # noqa: E402

SHAPES = {
    "conv_lstm3d": {"kernel": (5, 5, 5, 1, 128), "recurrent_kernel": (5, 5, 5, 32, 128)},
    "conv_lstm3d_1": {"kernel": (3, 3, 3, 32, 128), "recurrent_kernel": (3, 3, 3, 32, 128)},
    "conv_lstm3d_2": {"kernel": (1, 1, 1, 32, 128), "recurrent_kernel": (1, 1, 1, 32, 128)},
    "conv3d": {"kernel": (5, 5, 5, 32, 1), "bias": (1,)},
}
for name in ("conv_lstm3d", "conv_lstm3d_1", "conv_lstm3d_2"):
    SHAPES[name]["bias"] = (128,)
for name in ("batch_normalization", "batch_normalization_1"):
    SHAPES[name] = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (32,))


def description():
    """Describe the author's model as Keras 2.10 does in its files, shortened."""
    convolution = {"padding": "same", "strides": [1, 1, 1], "dilation_rate": [1, 1, 1]}
    memory = {
        **convolution,
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
        "go_backwards": False,
        "return_sequences": True,
        "time_major": False,
        "filters": 32,
    }
    norm = {"axis": [5], "momentum": 0.99, "epsilon": 0.001}
    layers = [
        ("InputLayer", "input_1", {"batch_input_shape": [None, None, 16, 16, 16, 1]}),
        ("ConvLSTM3D", "conv_lstm3d", memory),
        ("BatchNormalization", "batch_normalization", norm),
        ("ConvLSTM3D", "conv_lstm3d_1", memory),
        ("BatchNormalization", "batch_normalization_1", norm),
        ("ConvLSTM3D", "conv_lstm3d_2", memory),
        ("Conv3D", "conv3d", {**convolution, "activation": "sigmoid"}),
    ]
    layers = [
        {"class_name": kind, "name": name, "config": {"name": name, **config}}
        for kind, name, config in layers
    ]
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers}}


def place(layer, name):
    return f"model_weights/{layer}/{layer}/{name}:0"


@pytest.fixture(scope="module")
def arrays():
    """An array for each place in the file, all different."""
    rng = np.random.default_rng(7)
    return {
        place(layer, name): np.abs(rng.normal(0, 0.05, shape)).astype(np.float32)
        for layer, shapes in SHAPES.items()
        for name, shape in shapes.items()
    }


@pytest.fixture
def author_file(arrays, tmp_path, monkeypatch):
    """A file in the author's layout, with weights at random; one of his, as far as we can tell."""
    path = tmp_path / "convlstm3d_16_T20_TINC1.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.10.0"
        file.attrs["model_config"] = json.dumps(description())
        for where, values in arrays.items():
            file[where] = values
        group = file["model_weights"]
        for empty in ("input_1", "top_level_model_weights"):
            group.create_group(empty).attrs["weight_names"] = np.array([], "S1")
        group.attrs["layer_names"] = [layer["name"] for layer in description()["config"]["layers"]]
        for layer, shapes in SHAPES.items():
            group[layer].attrs["weight_names"] = [f"{layer}/{name}:0" for name in shapes]
    monkeypatch.setattr(_files, "digest", lambda path: thesis.DIGESTS["T20_TINC1"])
    return path


def change_description(path, change):
    with h5py.File(path, "r+") as file:
        found = json.loads(file.attrs["model_config"])
        change({layer["name"]: layer for layer in found["config"]["layers"]}, found["config"])
        file.attrs["model_config"] = json.dumps(found)


# The arrays and the gate


def test_every_array_lands_in_its_place(author_file, arrays):
    model = thesis.load(author_file)
    assert model.count_params() == sum(values.size for values in arrays.values()) == 762_017
    ours = {
        **dict(zip(("conv_lstm3d", "conv_lstm3d_1", "conv_lstm3d_2"), model.memories)),
        **dict(zip(("batch_normalization", "batch_normalization_1"), model.norms)),
        "conv3d": model.head,
    }
    for layer, shapes in SHAPES.items():
        for name in shapes:
            np.testing.assert_array_equal(getattr(ours[layer], name), arrays[place(layer, name)])
    found = model(np.ones((1, 2, 16, 16, 16, 1)))
    assert found.shape == (1, 2, 16, 16, 16, 1) and found.dtype == "float32"
    assert model.config == convlstm.thesis()


def test_another_file_than_the_author_s_is_told(author_file, monkeypatch):
    monkeypatch.undo()  # now its digest is its own
    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", None)  # and it is not even opened
        with pytest.raises(ValueError, match="none of the author's three files.*known=False"):
            thesis.load(author_file)
    assert thesis.load(author_file, known=False).count_params() == 762_017


def test_the_two_hard_sigmoids_differ_by_a_twelfth():
    x = np.linspace(-5, 5, 100_001, dtype=np.float32)
    difference = np.asarray(convlstm.keras2_hard_sigmoid(x) - keras.activations.hard_sigmoid(x))
    assert difference.max() == pytest.approx(1 / 12, abs=1e-5)
    assert difference.min() == pytest.approx(-1 / 12, abs=1e-5)
    assert x[difference.argmax()] == pytest.approx(2.5, abs=1e-3)
    assert x[difference.argmin()] == pytest.approx(-2.5, abs=1e-3)
    assert (difference[(np.abs(x) >= 3) | (x == 0)] == 0).all()
    assert convlstm.build(convlstm.thesis()).memories[0].gate == "keras2_hard_sigmoid"


# Bad files


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.h5 is not a file; expected one such as"):
        thesis.load(tmp_path / "nowhere.h5")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        thesis.load(tmp_path)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(ValueError, match="weights.h5 is damaged.*Fetch it again"):
        thesis.load(path, known=False)


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_truncated_file_is_refused(author_file, share):
    content = author_file.read_bytes()
    author_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="T20_TINC1.h5 is damaged.*Fetch it again"):
        thesis.load(author_file)


def test_damage_in_the_structure_is_an_error_of_ours_or_does_no_harm(author_file):
    """Never another exception, and never another model without a word."""
    content = author_file.read_bytes()
    expected = thesis.load(author_file).get_weights()
    # Blocks of the file's structure, found by their signatures.
    signatures = (b"TREE", b"SNOD", b"HEAP")
    starts = [at for at in range(0, len(content), 8) if content[at : at + 4] in signatures]
    refused = 0
    for start in np.random.default_rng(5).choice(starts, 12, replace=False):
        author_file.write_bytes(content[:start] + b"\xff" * 32 + content[start + 32 :])
        try:
            found = thesis.load(author_file).get_weights()
        except ValueError as error:
            assert author_file.name in str(error)
            refused += 1
        else:
            assert all(map(np.array_equal, found, expected))
    assert refused > 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers, _: layers["conv_lstm3d_1"]["config"].update(activation="tanh"),
         "activation of its layer conv_lstm3d_1 is 'tanh'; expected 'relu'"),
        (lambda layers, _: layers["conv_lstm3d"]["config"].update(recurrent_activation="sigmoid"),
         "recurrent_activation of its layer conv_lstm3d is 'sigmoid'"),
        (lambda layers, _: layers["conv3d"]["config"].pop("padding"), "padding of its layer"),
        (lambda layers, _: layers["conv_lstm3d"].update(class_name="ConvLSTM2D"), "class_name"),
        (lambda _, model: model["layers"].pop(2), "its layers are.*expected input_1, conv_lstm3d"),
        (lambda _, model: model["layers"].insert(1, "Dense"), "missing or unreadable"),
    ],
)  # fmt: skip
def test_another_model_is_refused(author_file, change, message):
    change_description(author_file, change)
    with pytest.raises(ValueError, match=f"does not hold the ConvLSTM of the thesis.*{message}"):
        thesis.load(author_file)


@pytest.mark.parametrize("text", [None, "{", b"\xff\xfe", '{"config": 3}', "[" * 60_000])
def test_a_missing_or_broken_description_is_refused(author_file, text):
    with h5py.File(author_file, "r+") as file:
        del file.attrs["model_config"]
        if text is not None:
            file.attrs["model_config"] = text
    with pytest.raises(ValueError, match="model description is missing or unreadable"):
        thesis.load(author_file)


KERNEL = place("conv_lstm3d_1", "kernel")
BIAS = place("conv3d", "bias")


def test_an_array_of_another_shape_is_refused(author_file):
    with h5py.File(author_file, "r+") as file:
        values = file[KERNEL][()]
        del file[KERNEL]
        file[KERNEL] = values[..., :-1]
    with pytest.raises(ValueError, match="T20_TINC1.h5 is damaged.*shape"):
        thesis.load(author_file)


@pytest.mark.parametrize("missing", [BIAS, "model_weights"])
def test_a_missing_array_is_an_error(author_file, missing):
    with h5py.File(author_file, "r+") as file:
        del file[missing]
    with pytest.raises(ValueError, match="T20_TINC1.h5 is damaged"):
        thesis.load(author_file)


def test_another_file_is_not_looked_into(author_file):
    with h5py.File(author_file, "r+") as file:
        file.move(KERNEL, "elsewhere")
    other = author_file.with_name("other.h5")
    other.write_bytes(author_file.read_bytes())
    with h5py.File(author_file, "r+") as file:
        file[KERNEL] = h5py.ExternalLink(other.name, "elsewhere")
    with pytest.raises(ValueError, match="T20_TINC1.h5 is damaged"):
        thesis.load(author_file)


def code_that_writes(path):
    """Return a Lambda layer as Keras 2 saves it: marshalled code, which runs when it is called."""
    source = f"lambda x: open({str(path)!r}, 'w').write('ran')"
    code = marshal.dumps(eval(source).__code__)
    return {
        "class_name": "Lambda",
        "name": "lambda",
        "config": {
            "name": "lambda",
            "function": [code.hex(), None, None],
            "function_type": "lambda",
            "module": "__main__",
        },
    }


def test_code_in_the_file_is_never_executed(author_file, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    layer = code_that_writes(ran)

    def refused(*_, **__):
        raise AssertionError("the file is read as data only")

    for owner, name in ((marshal, "loads"), (keras.saving, "load_model"),
                        (keras.saving, "deserialize_keras_object")):  # fmt: skip
        monkeypatch.setattr(owner, name, refused)
    expected = thesis.load(author_file).get_weights()
    # Where it plays no role for the arrays, it is not looked at …
    change_description(
        author_file,
        lambda layers, model: (
            layers["conv_lstm3d"]["config"].update(kernel_initializer=layer, module="os"),
            model.update(custom_objects=layer, registered_name="os>system"),
        ),
    )
    with h5py.File(author_file, "r+") as file:
        file.attrs["training_config"] = json.dumps({"loss": layer})
    for found, old in zip(thesis.load(author_file).get_weights(), expected):
        np.testing.assert_array_equal(found, old)
    # … and where it would, the file is refused.
    with pytest.raises(ValueError, match="activation of its layer conv3d"):
        change_description(
            author_file, lambda layers, _: layers["conv3d"]["config"].update(activation=layer)
        )
        thesis.load(author_file)
    with pytest.raises(ValueError, match="its layers are .*lambda"):
        change_description(author_file, lambda _, model: model["layers"].append(layer))
        thesis.load(author_file)
    assert not ran.exists()


# With the thesis's own files


@pytest.mark.parametrize("frame_format", THESIS_FORMATS, ids=lambda found: found.name)
def test_the_author_s_arrays_are_read_as_they_are(thesis_folder, frame_format):
    path = thesis_folder / "weights" / thesis.FILE_NAME.format(frame_format.name)
    model = thesis.load(path)
    layers = {
        **dict(zip(("conv_lstm3d", "conv_lstm3d_1", "conv_lstm3d_2"), model.memories)),
        **dict(zip(("batch_normalization", "batch_normalization_1"), model.norms)),
        "conv3d": model.head,
    }
    with h5py.File(path) as file:
        for layer, shapes in SHAPES.items():
            for name in shapes:
                np.testing.assert_array_equal(
                    getattr(layers[layer], name), file[place(layer, name)]
                )


def test_a_flipped_bit_does_not_go_unnoticed(thesis_folder, tmp_path):
    path = thesis_folder / "weights" / thesis.FILE_NAME.format("T20_TINC1")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    copy = tmp_path / path.name
    copy.write_bytes(content)
    with pytest.raises(ValueError, match="none of the author's three files"):
        thesis.load(copy)


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
