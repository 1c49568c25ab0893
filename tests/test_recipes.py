import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from helpers import (
    _files,
    convlstm,
    forecaster,
    recipes,
    records,
    rollout,
    surface,
    training,
    wgan_gp,
    workshop,
)
from helpers.sequences import T20_TINC1, T80_TINC4, THESIS_FORMATS

DATA = workshop.REPOSITORY / "data" / "sample"
TINY = convlstm.Config(filters=(2,), kernels=(1,), patch=8, width=4, blocks=1, residual=4.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def recipe():
    plan = dataclasses.replace(recipes.convlstm_recipe(4).plan, validate_every=2, warm_up=1)
    return recipes.Recipe(TINY, plan)


@pytest.mark.parametrize("start", [1, 2, 3, 5])
def test_mixed_batches_go_on_from_any_step(cache, start):
    split = recipes.open_split(DATA, "validation")
    from_step = recipes.convlstm_recipe(10).batches(split, THESIS_FORMATS)
    whole = [x.numpy() for x, _ in from_step(0).take(start + 4)]
    late = [x.numpy() for x, _ in from_step(start).take(4)]
    assert all(np.array_equal(a, b) for a, b in zip(whole[start:], late))


def test_mixed_batches_take_turns(cache):
    split = recipes.open_split(DATA, "validation")
    recipe = recipes.convlstm_recipe(10)
    alone = [next(iter(recipe.batches(split, [found])(0)))[0].numpy() for found in THESIS_FORMATS]
    mixed = [x.numpy() for x, _ in recipe.batches(split, THESIS_FORMATS)(0).take(3)]
    # The first format draws with the same seed alone and in turn.
    assert np.array_equal(alone[0], mixed[0])
    moved = [np.abs(np.diff(x, axis=1)).mean() for x in mixed]
    assert moved[0] < moved[2]


def test_a_packed_split_is_opened_as_it_is(cache, tmp_path):
    packed = records.packed(DATA / workshop.SPLITS["test"], tmp_path, limit=3, progress=False)
    packed.folder.rename(tmp_path / workshop.SPLITS["test"])
    split = recipes.open_split(tmp_path, "test")
    assert len(split) == 3 and np.array_equal(split.frames([1]), packed.frames([1]))


def test_from_training_to_a_judged_file(cache, tmp_path, recipe, capsys):
    run, out = tmp_path / "run", tmp_path / "w.npz"
    history = recipes.train(recipe, DATA, [T20_TINC1], run)
    assert history.step == 4
    recipes.ship(run, out)
    record = training.read_record(out)
    assert record["steps"] == 4 and record["formats"] == ["T20_TINC1"]
    assert record["plan"]["seed"] == 1 and record["machine"]["tensorflow"]
    best = history.best["val_jaccard_pooled"]
    assert record["validation"]["pooled"] == pytest.approx(best, abs=1e-5)
    # So many sequences are in the sample set, fewer than the recipe takes at most.
    assert record["validation"]["n"] == 24 and "validated" not in record
    recipes.add_figures(out, DATA, [T20_TINC1], limit=2)
    found = json.loads(out.with_suffix(".json").read_text())["test"]["T20_TINC1"]
    assert found["pooled, horizon 1"]["prediction"]["n"] == 2
    # So short a training is still persistence.
    assert found["pooled, horizon 1"]["prediction"]["mean"] == pytest.approx(
        found["pooled, horizon 1"]["persistence"]["mean"], abs=0.02
    )
    assert np.isfinite(convlstm.load(out)(np.zeros((1, 2, 16, 16, 16, 1), "float32"))).all()
    # Weights to begin with are read, and said.
    began = recipes.train(recipe, DATA, [T20_TINC1], tmp_path / "next", start=out)
    assert began.step == 4
    note = json.loads((tmp_path / "next" / recipes.NOTE).read_text())
    assert note["began_with"]["file"] == "w.npz"
    # The log goes with the weights, and with those that begin with them.
    assert record["log"]["step"] == list(history.table()["step"])
    recipes.ship(tmp_path / "next", tmp_path / "next.npz")
    logs = recipes.training_logs(training.read_record(tmp_path / "next.npz"))
    assert list(logs) == ["run 1", "run 2"]
    for table, run in zip(logs.values(), (history, began)):
        pd.testing.assert_frame_equal(table, run.table(), check_like=True, atol=1e-5)
    # Of weights older than that, those runs are left out.
    del record["log"]
    assert list(recipes.training_logs({"log": {"step": [1]}, "began_with": record})) == ["run 2"]
    assert recipes._columns(pd.DataFrame({"x": [1, np.nan]})) == {"x": [1.0, None]}


def test_a_wgan_gp_from_the_generator_alone_to_a_judged_file(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipes.WGANRecipe, "checked", 6)
    small = {"width": 8, "blocks": 1, "channels": 2, "hidden": 3, "critic_width": 8}

    def made(steps, **options):
        found = recipes.wgan_recipe(steps, frames=1, **options)
        config = dataclasses.replace(found.config, warm_up=1, critic_steps=2, **small)
        plan = dataclasses.replace(found.plan, batch_size=2, warm_up=1, validate_every=steps)
        return dataclasses.replace(found, config=config, plan=plan)

    alone, out = tmp_path / "alone.npz", tmp_path / "w.npz"
    history = recipes.train(made(2), DATA, [T20_TINC1], tmp_path / "1")
    assert history.step == 2 and "val_jaccard_per_frame" in history.best
    recipes.ship(tmp_path / "1", alone)
    judged = made(3, adversarial=0.03)
    assert judged.plan.learning_rate < made(3).plan.learning_rate
    recipes.train(judged, DATA, [T20_TINC1], tmp_path / "2", start=alone)
    recipes.ship(tmp_path / "2", out, "last")
    record = training.read_record(out)
    assert record["configuration"]["adversarial"] == 0.03 and record["critic_rate"] == 5e-4
    assert record["began_with"]["configuration"]["adversarial"] == 0
    assert record["examples_in_all"] == 2 * 2 + 3 * 2
    assert "best_step" in training.read_record(alone) and record["last_step"] == 3
    model = wgan_gp.build(judged.config)
    row = training.load_last(tmp_path / "2", model)
    assert row["step"] == 3
    for one, other in zip(model.get_weights(), wgan_gp.load(out).get_weights()):
        np.testing.assert_array_equal(one, other)
    recipes.add_figures(out, DATA, [T20_TINC1], limit=2)
    found = training.read_record(out)["test"]["T20_TINC1"]
    # A model that reads one frame is judged on single frames, from one frame on.
    assert found["per_frame, horizon 1"]["prediction"]["n"] == 2
    assert found["rollout, horizon 5"]["persistence"]["n"] == 2


def test_a_stopped_run_goes_on_only_as_it_began(cache, tmp_path):
    plan = training.Plan(2, 4, 1e-3, validate_every=2)
    config = surface.Config(history=6, ahead=3, radius=1, width=8, layers=1)
    recipe = recipes.SurfaceNetRecipe(config, plan, voxels=16, candidates=32)
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path)
    note = json.loads((tmp_path / recipes.NOTE).read_text())
    assert note["scout_sha256"] == training.read_record(recipes.WEIGHTS / "scout.npz")["sha256"]
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path)
    assert json.loads((tmp_path / recipes.NOTE).read_text()) == note
    with pytest.raises(ValueError, match="another recipe"):
        recipes.train(dataclasses.replace(recipe, fives=0.5), DATA, [T20_TINC1], tmp_path)
    with pytest.raises(ValueError, match="another formats"):
        recipes.train(recipe, DATA, THESIS_FORMATS, tmp_path)
    (tmp_path / recipes.NOTE).write_text(json.dumps(note | {"scout_sha256": "other"}))
    with pytest.raises(ValueError, match="another scout"):
        recipes.train(recipe, DATA, [T20_TINC1], tmp_path)


@pytest.mark.parametrize(
    ("recipe", "formats", "count"),
    [
        (recipes.convlstm_recipe(4), THESIS_FORMATS, 3 * 24),
        (recipes.patchnet_recipe(4), THESIS_FORMATS[:2], 2 * 24),
        (dataclasses.replace(recipes.scout_recipe(4), voxels=16), THESIS_FORMATS, 960),
    ],
)
def test_as_many_are_validated_as_there_are(cache, recipe, formats, count):
    split = recipes.open_split(DATA, "validation")
    assert recipe.validated(split, formats) == count
    data = recipe.validation(split, formats)
    assert sum(len(recipes.tf.nest.flatten(batch)[0]) for batch in data) == count


def stop_at(monkeypatch, step):
    """Press the button of a training once, at a step."""
    pressed = []

    def on_train_batch_end(self, batch, logs=None):
        if not pressed and int(self.model.optimizer.iterations) == step:
            pressed.append(step)
            self.request()
            self.model.stop_training = True

    monkeypatch.setattr(training.Stop, "on_train_batch_end", on_train_batch_end)


def test_a_stopped_training_is_no_finished_one(cache, tmp_path, recipe, monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "convlstm", lambda steps, **options: recipe)
    run, out = tmp_path / "run", tmp_path / "w.npz"
    command = ["train", "T20_TINC1", "--data", str(DATA), "--run", str(run)]
    stop_at(monkeypatch, 3)
    assert recipes.main(command) == 130
    said = "stopped; step 2 of 4 is kept, and the same command goes on from there"
    assert said in capsys.readouterr().err
    ship = ["ship", "T20_TINC1", "--run", str(run), "--weights", str(out), "--keep"]
    # Step 3 is within a round, which is given up.
    assert recipes.main([*ship, "last"]) == 0
    record = training.read_record(out)
    assert (record["steps"], record["last_step"], record["examples_in_all"]) == (2, 2, 4)
    assert record["validation"]["n"] == 24
    assert recipes.main([*ship, "best"]) == 0
    record = training.read_record(out)
    assert record["best_step"] == 2 and record["validation"]["n"] == 24
    assert recipes.main(command) == 0
    assert recipes.main([*ship, "last"]) == 0
    record = training.read_record(out)
    assert record["last_step"] == 4 and record["validation"]["n"] == 24


def test_a_stopped_ablation_goes_on(cache, tmp_path, recipe, monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "convlstm", lambda steps, **options: recipe)
    monkeypatch.setattr(recipes, "ABLATION_SAMPLES", 2)
    monkeypatch.setitem(recipes.ABLATIONS, "convlstm", {"as it is": {}})
    run, out = tmp_path / "run", tmp_path / "t.csv"
    command = ["ablate", "T20_TINC1", "--data", str(DATA), "--run", str(run), "--out", str(out)]
    command += ["--steps", "4"]
    stop_at(monkeypatch, 1)
    assert recipes.main(command) == 130
    assert "stopped; step 0 of 4 is kept" in capsys.readouterr().err and not out.exists()
    assert recipes.main(command) == 0
    assert list(pd.read_csv(out)["change"]) == ["as it is", "persistence"]


@pytest.mark.parametrize(
    ("task", "missing"),
    [
        ("train", "--data, --run"),
        ("ship", "--run, --weights"),
        ("tune", "--data, --weights"),
        ("validate", "--data, --weights"),
        ("test", "--data, --weights"),
        ("ablate", "--data, --run, --out"),
    ],
)
def test_a_missing_option_is_said_before_any_work(task, missing, capsys):
    with pytest.raises(SystemExit) as left:
        recipes.main([task, "mixed"])
    assert left.value.code == 2
    assert f"{task} needs {missing}\n" in capsys.readouterr().err


class Persistence:
    """A forecaster of three frames that are, almost, the last one."""

    name = "persistence"
    ahead = 3

    def __call__(self, history):
        return np.abs(history[:, -1] - 0.1)

    def several(self, history):
        return np.repeat(self(history)[:, np.newaxis], 3, axis=1)


@pytest.fixture
def shipped(tmp_path):
    """Make weights of a tiny SurfaceNet, or of a network like it, with a record."""

    def made(model="surfacenet", **more):
        config = surface.Config(ahead=3, radius=1, width=4, layers=0)
        record = {"model": model, "formats": ["T20_TINC1", "T40_TINC2"], **more}
        return training.save_weights(tmp_path / f"{model}.npz", surface.build(config), record)

    return made


def test_what_a_record_says_of_other_formats_stays(shipped, monkeypatch, capsys):
    """Also what was written while forecasts were made."""
    kept = {"thresholds": {"T20_TINC1": [0.9] * 3}, "test, plain": {"T20_TINC1": 1}}
    out = shipped(**kept)
    loads = 0

    def load(*args, **options):
        nonlocal loads
        loads += 1
        note(**{f"note {loads}": 1})
        return Persistence()

    def note(**found):
        _files.write_json(out.with_suffix(".json"), training.read_record(out) | found)

    monkeypatch.setattr(recipes, "load", load)
    monkeypatch.setattr(recipes, "VALIDATION_SAMPLES", 2)
    recipes.tune(out, DATA, [THESIS_FORMATS[1]])
    record = training.read_record(out)
    assert record["thresholds"]["T20_TINC1"] == [0.9] * 3
    assert len(record["thresholds"]["T40_TINC2"]) == 3
    assert record["note 1"] == 1
    recipes.add_figures(out, DATA, [THESIS_FORMATS[1]], 2, variant="plain")
    record = training.read_record(out)
    assert record["test, plain"]["T20_TINC1"] == 1 and "T40_TINC2" in record["test, plain"]
    assert record["note 2"] == 1


@pytest.mark.parametrize("task", ["tune", "add_figures"])
def test_each_format_is_kept_as_soon_as_it_is_done(task, shipped, monkeypatch, capsys):
    out, done = shipped(), []

    def load(path, frame_format, **options):
        if done:
            raise KeyboardInterrupt
        done.append(frame_format.name)
        return Persistence()

    monkeypatch.setattr(recipes, "load", load)
    monkeypatch.setattr(recipes, "VALIDATION_SAMPLES", 2)
    with pytest.raises(KeyboardInterrupt):
        options = {"limit": 2} if task == "add_figures" else {}
        getattr(recipes, task)(out, DATA, THESIS_FORMATS[:2], **options)
    name = "thresholds" if task == "tune" else "test, thresholds"
    assert list(training.read_record(out)[name]) == done == ["T20_TINC1"]


def test_figures_are_not_added_to_other_weights(shipped, monkeypatch, capsys):
    def load(*args, **options):
        shipped()  # in its place
        return Persistence()

    out = shipped()
    monkeypatch.setattr(recipes, "load", load)
    with pytest.raises(ValueError, match="replaced by other weights"):
        recipes.add_figures(out, DATA, [T20_TINC1], 2)
    assert "test, thresholds" not in training.read_record(out)


def test_a_record_is_whole_or_as_it_was(shipped, tmp_path, monkeypatch):
    out = shipped()
    before = out.with_suffix(".json").read_bytes()

    def broken(*args):
        raise OSError("no room")

    monkeypatch.setattr(training.os, "replace", broken)
    with pytest.raises(OSError, match="no room"):
        recipes._add(out, training.read_record(out), {"test": {}})
    with pytest.raises(OSError, match="no room"):
        recipes._keep_note({"model": "surfacenet"}, tmp_path)
    assert out.with_suffix(".json").read_bytes() == before
    assert not (tmp_path / recipes.NOTE).exists() and not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("better", [0, 1])
def test_tune_finds_the_better_shares(better, shipped, monkeypatch):
    """The mean of persistence and its opposite is good only if persistence has the larger share."""

    class Opposite(Persistence):
        def __call__(self, history):
            return np.abs(0.9 - history[:, -1])

    out = shipped()
    stubs = [Persistence(), Opposite()] if better == 0 else [Opposite(), Persistence()]
    mean = forecaster.Together(stubs)
    monkeypatch.setattr(recipes, "load", lambda *args, **options: mean)
    monkeypatch.setattr(recipes, "VALIDATION_SAMPLES", 4)
    recipes.tune(out, DATA, [T20_TINC1], "together")
    record = training.read_record(out)
    expected = [0.75, 0.25] if better == 0 else [0.25, 0.75]
    assert record["shares, together"]["T20_TINC1"] == 3 * [expected]
    assert len(record["thresholds, together"]["T20_TINC1"]) == 3


def test_a_scout_is_trained_and_found(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes.SurfaceNetRecipe, "checked", 32)
    made = recipes.scout_recipe(2)
    assert made.config == surface.scout() and made.scout is None
    recipe = dataclasses.replace(made, voxels=16, plan=training.Plan(2, 4, 1e-3, validate_every=2))
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path / "run")
    assert "scout_sha256" not in json.loads((tmp_path / "run" / recipes.NOTE).read_text())
    recipes.ship(tmp_path / "run", tmp_path / "scout.npz")
    assert training.read_record(tmp_path / "scout.npz")["model"] == "scout"
    config = surface.Config(radius=1, width=8, layers=1)
    path = tmp_path / "surfacenet.npz"
    note = {"model": "surfacenet", "formats": ["T20_TINC1"]}
    training.save_weights(path, surface.build(config), note)
    assert recipes.load(path, T20_TINC1).scout.config == surface.scout()
    assert recipes.load(path, T20_TINC1, scout=None).scout is None
    beside = tmp_path / "follower.npz"
    training.save_weights(beside, surface.build(config), note | {"model": "follower"})
    found = recipes.load(path, T20_TINC1)
    assert found.follower.model is recipes.load(beside, T20_TINC1).model is not found.model
    assert found.follower.scout is found.scout
    assert recipes.load(path, T20_TINC1, scout=None).follower.scout is None
    assert recipes.load(path, T20_TINC1, follower=None).follower is None
    assert recipes.load(beside, T20_TINC1).follower is None
    # Thresholds of its own, in whatever record, would shift what is averaged.
    note |= {"model": "follower", "thresholds": {"T20_TINC1": [0.9] * config.ahead}}
    training.save_weights(beside, surface.build(config), note)
    assert recipes.load(path, T20_TINC1).follower.thresholds is None
    (tmp_path / "scout.npz").unlink()
    assert recipes.load(path, T20_TINC1).scout is None


def test_the_follower_learns_from_forecasts_of_the_first(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes.SurfaceNetRecipe, "checked", 32)
    config = surface.Config(history=6, ahead=2, radius=1, width=8, layers=1)
    made = dataclasses.replace(recipes.follower_recipe(2), config=config, voxels=16)
    assert (made.model, made.feeder, made.fed_back) == ("follower", "surfacenet.npz", 0.25)
    examples = made.examples(recipes.open_split(DATA, "training"), [T20_TINC1])
    assert examples.feeder.config == surface.shipped()
    recipe = dataclasses.replace(made, plan=training.Plan(2, 4, 1e-3, validate_every=2))
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path / "run")
    note = json.loads((tmp_path / "run" / recipes.NOTE).read_text())
    wanted = training.read_record(recipes.WEIGHTS / "surfacenet.npz")["sha256"]
    assert note["feeder_sha256"] == wanted
    recipes.ship(tmp_path / "run", tmp_path / "follower.npz")
    assert training.read_record(tmp_path / "follower.npz")["model"] == "follower"


def test_a_surfacenet_from_training_to_a_tuned_file(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "VALIDATION_SAMPLES", 4)
    monkeypatch.setattr(recipes.SurfaceNetRecipe, "checked", 32)
    plan = training.Plan(4, 4, 1e-3, validate_every=2)
    config = surface.Config(history=6, ahead=3, radius=1, width=8, layers=1)
    recipe = recipes.SurfaceNetRecipe(config, plan, voxels=16)
    run, out = tmp_path / "run", tmp_path / "surfacenet.npz"
    history = recipes.train(recipe, DATA, THESIS_FORMATS, run)
    assert history.step == 4
    recipes.ship(run, out)
    record = training.read_record(out)
    assert record["model"] == "surfacenet" and record["voxels"] == 16
    assert record["examples_in_all"] == 16
    best = history.best["val_loss"]
    assert record["validation"]["loss"] == pytest.approx(best, abs=1e-5)
    recipes.tune(out, DATA, [T20_TINC1])
    (thresholds,) = training.read_record(out)["thresholds"].values()
    assert len(thresholds) == 3
    model = recipes.load(out, T20_TINC1)
    assert list(model.thresholds) == thresholds
    # The mean with a PatchNet has thresholds of its own.
    patch = forecaster.Config(history=4, ahead=3, channels=2, hidden=3, width=4, blocks=1)
    training.save_weights(tmp_path / "patchnet.npz", forecaster.build(patch), {"model": "patchnet"})
    recipes.tune(out, DATA, [T20_TINC1], "together")
    record = training.read_record(out)
    assert record["thresholds"]["T20_TINC1"] == thresholds
    both = recipes.load(out, T20_TINC1, **recipes.VARIANTS["together"])
    assert list(both.thresholds) == record["thresholds, together"]["T20_TINC1"]
    np.testing.assert_allclose(both.shares, record["shares, together"]["T20_TINC1"])
    assert both.shares.shape == (3, 2) and recipes.SHARES_NAME in record
    assert [type(part.model) for part in both.forecasters] == [
        forecaster.PatchNet,
        surface.SurfaceNet,
    ]
    with pytest.raises(ValueError, match="no SurfaceNet"):
        recipes.load(recipes.partner(out), T20_TINC1, together=True)
    with pytest.raises(ValueError, match="'fed back' has no thresholds"):
        recipes.tune(out, DATA, [T20_TINC1], "fed back")
    recipes.add_figures(out, DATA, [T20_TINC1], limit=2)
    found = training.read_record(out)["test, thresholds"]["T20_TINC1"]
    # So short a training is still persistence.
    place = found["pooled, horizon 1"]
    assert place["prediction"]["n"] == 2
    assert place["prediction"]["mean"] == pytest.approx(place["persistence"]["mean"], abs=0.02)


def test_a_file_is_one_network_until_it_changes(tmp_path):
    path, note = tmp_path / "w.npz", {"formats": ["T20_TINC1"]}
    training.save_weights(path, convlstm.build(TINY), note)
    first, again = (recipes.load(path, found).model for found in THESIS_FORMATS[:2])
    assert first is again
    model = convlstm.build(TINY)
    training.save_weights(path, model, note)
    changed = recipes.load(str(path), T20_TINC1).model
    assert changed is not first
    np.testing.assert_array_equal(changed.get_weights()[0], model.get_weights()[0])
    training.save_weights(path, model, note | {"model": "oracle"})
    with pytest.raises(training.CheckpointError, match="'oracle'; this course knows convlstm"):
        recipes.load(path, T20_TINC1)


@pytest.mark.parametrize("model", ["scout", "follower", "convlstm", "wgan_gp"])
def test_tune_refuses_models_without_thresholds(model, shipped):
    with pytest.raises(ValueError, match=f"is of a {model}, .* take a surfacenet or patchnet"):
        recipes.tune(shipped(model), DATA, [T20_TINC1])


def test_other_formats_and_variants_are_refused(shipped, tmp_path):
    out, other = shipped(), [T20_TINC1, T80_TINC4]
    says = "not trained for T80_TINC4; choose from T20_TINC1, T40_TINC2"
    for refused in (recipes.tune, recipes.add_figures):
        with pytest.raises(ValueError, match=says):
            refused(out, tmp_path, other)
    with pytest.raises(ValueError, match=says):
        recipes.judge(out, tmp_path, T80_TINC4, "test")
    training.save_weights(tmp_path / "w.npz", convlstm.build(TINY), {})
    with pytest.raises(ValueError, match="'mirrorings' is of these"):
        recipes.add_figures(tmp_path / "w.npz", tmp_path, [T20_TINC1], variant="mirrorings")


@pytest.mark.parametrize(
    ("file", "options", "says"),
    [
        ("convlstm_T80_TINC4", {"thresholds": [9], "ahead": 1}, "ahead, thresholds; .* name"),
        ("patchnet", {"scout": None}, "option scout; .*follower"),
        ("surfacenet", {"together": True, "symmetries": 8}, "symmetries; .*shares.* together"),
        ("wgan_gp_1", {"thresholds": None}, "thresholds; choose from name, seed"),
    ],
)
def test_options_that_there_are_not_are_refused(file, options, says):
    with pytest.raises(TypeError, match=says):
        recipes.load(recipes.WEIGHTS / f"{file}.npz", T80_TINC4, **options)


def test_options_that_there_are_go_on(shipped):
    file = recipes.WEIGHTS / "convlstm_T80_TINC4.npz"
    assert recipes.load(file, T80_TINC4, name="ours", together=False).name == "ours"
    with pytest.raises(ValueError, match="no SurfaceNet"):
        recipes.load(shipped("scout"), T20_TINC1, together=True)


def test_every_ablation_is_a_recipe():
    for model, changes in recipes.ABLATIONS.items():
        for values in changes.values():
            recipe, values = recipes.RECIPES[model](10), dict(values)
            dataclasses.replace(recipe.config, **values.pop("config", {}))
            dataclasses.replace(recipe.plan, **values.pop("plan", {}))
            assert set(values.pop("formats", ())) <= set(recipes.FORMATS)
            dataclasses.replace(recipe, **values)


@pytest.mark.parametrize("file", ["convlstm_{}.npz", "patchnet.npz", "surfacenet.npz"])
@pytest.mark.parametrize("name", [found.name for found in THESIS_FORMATS])
def test_shipped_weights_beat_persistence(name, file):
    path = workshop.REPOSITORY / "data" / "weights" / file.format(name)
    assert path.stat().st_size < 5e6
    record = training.read_record(path)
    figures = record["test" if "convlstm" in file else "test, thresholds"][name]
    assert len(figures) == 6
    for place in figures.values():
        assert place["prediction"]["interval"][1] < place["persistence"]["interval"][0]
    frames = recipes.open_split(DATA, "test").frames(np.arange(8))
    frames = recipes.FORMATS[name].select(frames)
    forecast = rollout.next_frames(recipes.load(path, recipes.FORMATS[name]), frames)
    found = recipes.metrics.pooled(frames[:, 1:], forecast).mean()
    assert found < recipes.metrics.pooled(frames[:, 1:], frames[:, :-1]).mean()
