"""Shipped weights by name: which network they are of, and what takes part in its forecasts."""

import numpy as np
import pytest

from helpers import convlstm, metrics, models, records, training, workshop
from helpers.models import register, surfacenet
from helpers.models.weights import read_card, save_weights
from helpers.sequences import FORMATS, T20_TINC1, T80_TINC4, THESIS_FORMATS

DATA = workshop.REPOSITORY / "data" / "sample"
TINY = convlstm.Config(filters=(2,), kernels=(1,), patch=8, width=4, blocks=1, residual=4.0)


def test_a_name_is_that_of_a_shipped_file(tmp_path):
    path = models.WEIGHTS / "convlstm_T20_TINC1.npz"
    for name in (path.stem, str(path)):
        assert models.load(name, T20_TINC1).model is models.load(path, T20_TINC1).model
    with pytest.raises(FileNotFoundError, match="weights.nothing.npz"):
        models.load("nothing", T20_TINC1)
    with pytest.raises(ValueError, match="convlstm_T20_TINC1 must end in .npz"):
        models.load(tmp_path / "here" / "convlstm_T20_TINC1", T20_TINC1)


@pytest.mark.parametrize("name", register.MODELS)
def test_every_model_offers_the_same_functions(name):
    kind = register.MODELS[name].kind
    names = "build load batches validation compile_options monitor forecaster multiply_adds"
    assert all(callable(getattr(kind, each)) for each in ["Config", *names.split()])


def test_a_file_is_one_network_until_it_changes(tmp_path):
    path, note = tmp_path / "w.npz", {"formats": ["T20_TINC1"]}
    save_weights(path, convlstm.build(TINY), note)
    first, again = (models.load(path, found).model for found in THESIS_FORMATS[:2])
    assert first is again
    model = convlstm.build(TINY)
    save_weights(path, model, note)
    changed = models.load(str(path), T20_TINC1).model
    assert changed is not first
    np.testing.assert_array_equal(changed.get_weights()[0], model.get_weights()[0])
    save_weights(path, model, note | {"model": "oracle"})
    with pytest.raises(training.CheckpointError, match="'oracle'; this course knows convlstm"):
        models.load(path, T20_TINC1)


def test_a_scout_is_found_or_given(tmp_path):
    assert models.load("convlstm_T80_TINC4", T80_TINC4, name="ours").name == "ours"
    beside = surfacenet.load(models.WEIGHTS / "scout.npz")
    found = models.load("surfacenet", T80_TINC4)
    np.testing.assert_array_equal(found.scout.get_weights()[0], beside.get_weights()[0])
    assert models.load("surfacenet", T80_TINC4, scout=None).scout is None
    path = tmp_path / "surfacenet.npz"
    save_weights(path, surfacenet.build(surfacenet.scout()), {"model": "surfacenet"})
    assert models.load(path, T20_TINC1).scout is None
    with pytest.raises(TypeError, match="scout"):  # an option that this model does not have
        models.load("cnn", T80_TINC4, scout=None)


@pytest.mark.parametrize("file", ["convlstm_{}.npz", "cnn.npz", "surfacenet.npz"])
@pytest.mark.parametrize("name", [found.name for found in THESIS_FORMATS])
def test_shipped_weights_beat_persistence(name, file):
    path = workshop.REPOSITORY / "data" / "weights" / file.format(name)
    assert path.stat().st_size < 5e6
    record = read_card(path)
    figures = record["test"][name]
    assert len(figures) == 7
    for place in figures.values():
        assert place["prediction"]["interval"][1] < place["persistence"]["interval"][0]
    frames = FORMATS[name].select(records.open_split(DATA, "test").frames(np.arange(24)))
    forecast = models.load(path, FORMATS[name])(frames[:, :8])
    found = metrics.jaccard_distance(frames[:, 8], forecast).mean()
    assert found < metrics.jaccard_distance(frames[:, 8], frames[:, 7]).mean()
