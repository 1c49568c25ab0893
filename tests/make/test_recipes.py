"""Recipes train and ship: here the ConvLSTM; every other model where it is slow."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from data.make import __main__ as commands
from data.make import ablations, cuts, recipes
from helpers import _files, convlstm, records, training, wgan_gp, workshop
from helpers.models import cnn, register, surfacenet
from helpers.models.weights import read_card, save_weights
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
    plan = dataclasses.replace(recipes.recipe("convlstm", 4).plan, validate_every=2, warm_up=1)
    return recipes.Recipe("convlstm", TINY, plan)


def test_the_thesis_network_is_trained_by_the_thesis_s_loss_and_adam():
    recipe = recipes.recipe("convlstm_thesis", 7, decay="none")
    assert recipe.kind is convlstm and recipe.config == convlstm.thesis()
    assert recipe.learned == {"jaccard_weight": 0.0}
    plan = recipe.plan
    assert (plan.steps, plan.learning_rate, plan.weight_decay, plan.warm_up) == (7, 1e-3, 0.0, 0)
    assert np.allclose([plan.schedule()(step) for step in range(7)], 1e-3)


def test_mixed_batches_take_turns_and_go_on_from_any_step(cache):
    split = records.open_split(DATA, "validation")
    recipe = recipes.recipe("convlstm", 10)
    alone = [next(iter(recipe.batches(split, [found])(0)))[0].numpy() for found in THESIS_FORMATS]
    from_step = recipe.batches(split, THESIS_FORMATS)
    mixed = [x.numpy() for x, _ in from_step(0).take(6)]
    late = [x.numpy() for x, _ in from_step(4).take(2)]
    assert all(np.array_equal(a, b) for a, b in zip(mixed[4:], late, strict=True))
    # The first format draws with the same seed alone and in turn.
    assert np.array_equal(alone[0], mixed[0])
    moved = [np.abs(np.diff(x, axis=1)).mean() for x in mixed[:3]]
    assert moved[0] < moved[2]


def test_a_packed_split_is_opened_as_it_is(cache, tmp_path):
    packed = records.packed(DATA / workshop.SPLITS["test"], tmp_path, limit=3, progress=False)
    packed.folder.rename(tmp_path / workshop.SPLITS["test"])
    split = records.open_split(tmp_path, "test")
    assert len(split) == 3 and np.array_equal(split.frames([1]), packed.frames([1]))


def test_from_training_to_shipped_weights(cache, tmp_path, recipe, capsys):
    run, out = tmp_path / "run", tmp_path / "w.npz"
    history = recipes.train(recipe, DATA, [T20_TINC1], run)
    assert history.step == 4
    recipes.ship(run, out)
    record = read_card(out)
    assert record["steps"] == 4 and record["formats"] == ["T20_TINC1"]
    assert record["plan"]["seed"] == 1 and record["machine"]["tensorflow"]
    best = history.best["val_jaccard_pooled"]
    assert record["validation"]["pooled"] == pytest.approx(best, abs=1e-5)
    # So many sequences are in the sample set, fewer than the recipe takes at most.
    assert record["validation"]["n"] == 24 and "validated" not in record
    assert np.isfinite(convlstm.load(out)(np.zeros((1, 2, 16, 16, 16, 1), "float32"))).all()
    # Weights to begin with are read, and said.
    began = recipes.train(recipe, DATA, [T20_TINC1], tmp_path / "next", start=out)
    assert began.step == 4
    note = json.loads((tmp_path / "next" / recipes.NOTE).read_text())
    assert note["began_with"]["file"] == "w.npz"
    # The log goes with the weights, and with those that begin with them.
    assert record["log"]["step"] == list(history.table()["step"])
    recipes.ship(tmp_path / "next", tmp_path / "next.npz")
    logs = register.training_logs(read_card(tmp_path / "next.npz"))
    assert list(logs) == ["run 1", "run 2"]
    for table, run in zip(logs.values(), (history, began)):
        pd.testing.assert_frame_equal(table, run.table(), check_like=True, atol=1e-5)
    # Of weights older than that, those runs are left out.
    del record["log"]
    assert list(register.training_logs({"log": {"step": [1]}, "began_with": record})) == ["run 2"]


def test_a_wgan_gp_goes_on_from_a_cnn(cache, tmp_path):
    def made(model, steps, config, **options):
        found = recipes.recipe(model, steps, **options)
        plan = {"batch_size": 2, "warm_up": 1, "validate_every": steps}
        return dataclasses.replace(found.changed(config=vars(config), plan=plan), checked=6)

    small = {"history": 2, "ahead": 2, "patch": 1, "width": 4, "blocks": 0}
    config = wgan_gp.Config(noise=1, critic_width=4, critic_steps=2, **small)
    alone, out = tmp_path / "alone.npz", tmp_path / "w.npz"
    first = made("cnn", 2, config.alone, policy="mixed_bfloat16")
    recipes.train(first, DATA, [T20_TINC1, T80_TINC4], tmp_path / "1")
    recipes.ship(tmp_path / "1", alone)
    record = read_card(alone)
    assert record["model"] == "cnn" and record["policy"] == "mixed_bfloat16"
    assert cnn.load(alone).compute_dtype == "float32"  # as forecasts are made
    run = recipes.train(made("wgan_gp", 3, config), DATA, [T20_TINC1], tmp_path / "2", start=alone)
    assert run.step == 3 and "val_next_jaccard_per_frame" in run.best
    recipes.ship(tmp_path / "2", out, "last")
    record = read_card(out)
    assert record["configuration"]["noise"] == 1 and record["critic_rate"] == 5e-4
    assert record["began_with"]["model"] == "cnn" and record["last_step"] == 3
    assert record["examples_in_all"] == 2 * 2 + 3 * 2
    model = wgan_gp.build(config)
    assert training.load_last(tmp_path / "2", model)["step"] == 3
    for one, other in zip(model.get_weights(), wgan_gp.load(out).get_weights()):
        np.testing.assert_array_equal(one, other)
    # And on from there, with both networks.
    recipes.train(made("wgan_gp", 1, config), DATA, [T20_TINC1], tmp_path / "3", start=out)


def test_a_stopped_run_goes_on_only_as_it_began(cache, tmp_path, monkeypatch):
    def learned(model, batches, checkpoint, **options):
        """Stand in for a training: what was noted matters here, not what is learned."""
        (checkpoint.folder / training.CHECKPOINT).touch()
        checkpoint.step = checkpoint.plan.steps
        return checkpoint

    monkeypatch.setattr(training, "train", learned)
    plan = training.Plan(2, 4, 1e-3, validate_every=2)
    config = surfacenet.Config(history=6, ahead=3, radius=1, width=8, layers=1)
    recipe = recipes.recipe("surfacenet", 2).changed(drawn={"voxels": 16, "candidates": 32})
    recipe = dataclasses.replace(recipe, config=config, plan=plan)
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path)
    note = json.loads((tmp_path / recipes.NOTE).read_text())
    assert note["scout_sha256"] == read_card(register.WEIGHTS / "scout.npz")["sha256"]
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path)
    assert json.loads((tmp_path / recipes.NOTE).read_text()) == note
    with pytest.raises(ValueError, match="another recipe"):
        recipes.train(recipe.changed(drawn={"fives": 0.5}), DATA, [T20_TINC1], tmp_path)
    with pytest.raises(ValueError, match="another formats"):
        recipes.train(recipe, DATA, THESIS_FORMATS, tmp_path)
    _files.write_json(tmp_path / recipes.NOTE, note | {"scout_sha256": "other"})
    with pytest.raises(ValueError, match="another scout"):
        recipes.train(recipe, DATA, [T20_TINC1], tmp_path)


@pytest.mark.parametrize(
    ("recipe", "formats", "count"),
    [
        (recipes.recipe("convlstm", 4), THESIS_FORMATS, 3 * 24),
        (recipes.recipe("cnn", 4), THESIS_FORMATS[:2], 2 * 24),
        (recipes.recipe("scout", 4).changed(drawn={"voxels": 16}), THESIS_FORMATS, 960),
    ],
)
def test_as_many_are_validated_as_there_are(cache, recipe, formats, count):
    split = records.open_split(DATA, "validation")
    assert recipe.validated(split, formats) == count
    data = recipe.validation(split, formats)
    assert sum(len(workshop.tensorflow().nest.flatten(batch)[0]) for batch in data) == count


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
    monkeypatch.setattr(recipes, "recipe", lambda *_, **options: recipe)
    run, out = tmp_path / "run", tmp_path / "w.npz"
    command = ["train", "T20_TINC1", "--data", str(DATA), "--run", str(run)]
    stop_at(monkeypatch, 3)
    assert commands.main(command) == 130
    said = "stopped; step 2 of 4 is kept, and the same command goes on from there"
    assert said in capsys.readouterr().err
    ship = ["ship", "T20_TINC1", "--run", str(run), "--weights", str(out), "--keep"]
    # Step 3 is within a round, which is given up.
    assert commands.main([*ship, "last"]) == 0
    record = read_card(out)
    assert (record["steps"], record["last_step"], record["examples_in_all"]) == (2, 2, 4)
    assert record["validation"]["n"] == 24
    assert commands.main([*ship, "best"]) == 0
    record = read_card(out)
    assert record["best_step"] == 2 and record["validation"]["n"] == 24
    assert commands.main(command) == 0
    assert commands.main([*ship, "last"]) == 0
    record = read_card(out)
    assert record["last_step"] == 4 and record["validation"]["n"] == 24


def test_a_missing_option_is_said_before_any_work(capsys):
    for task, missing in (("train", "--data, --run"), ("ablate", "--data, --run, --out")):
        with pytest.raises(SystemExit) as left:
            commands.main([task, "mixed"])
        assert left.value.code == 2
        assert f"{task} needs {missing}\n" in capsys.readouterr().err


def test_what_is_missing_or_damaged_is_told_in_a_line(tmp_path, capsys):
    place = ["--run", str(tmp_path / "run"), "--weights", str(tmp_path / "w.npz")]
    assert commands.main(["train", "mixed", "--data", str(tmp_path / "none"), *place]) == 1
    assert commands.main(["ship", "mixed", *place]) == 1
    other = ["--data", str(DATA), "--model", "wgan_gp", "--policy", "mixed_bfloat16"]
    assert commands.main(["train", "mixed", *other, *place]) == 1
    (tmp_path / "w.npz").write_bytes(b"")
    (tmp_path / "w.json").write_text("{")
    start = ["--start", str(tmp_path / "w.npz")]
    assert commands.main(["train", "mixed", "--data", str(DATA), *place, *start]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4 and all(line.startswith("error: ") for line in told)


def test_a_scout_is_trained_and_found(cache, tmp_path, monkeypatch):
    made = recipes.recipe("scout", 2)
    assert made.config == surfacenet.scout() and made.drawn["scout"] is None
    plan = training.Plan(2, 4, 1e-3, validate_every=2)
    recipe = dataclasses.replace(made.changed(drawn={"voxels": 16}), plan=plan, checked=32)
    recipes.train(recipe, DATA, [T20_TINC1], tmp_path / "run")
    assert "scout_sha256" not in json.loads((tmp_path / "run" / recipes.NOTE).read_text())
    recipes.ship(tmp_path / "run", tmp_path / "scout.npz")
    assert read_card(tmp_path / "scout.npz")["model"] == "scout"
    config = surfacenet.Config(radius=1, width=8, layers=1)
    path = tmp_path / "surfacenet.npz"
    note = {"model": "surfacenet", "formats": ["T20_TINC1"]}
    save_weights(path, surfacenet.build(config), note)
    assert register.load(path, T20_TINC1).scout.config == surfacenet.scout()
    assert register.load(path, T20_TINC1, scout=None).scout is None
    (tmp_path / "scout.npz").unlink()
    assert register.load(path, T20_TINC1).scout is None


def test_ablations_are_networks_and_resume(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    small = ablations.SMALL["cnn"]
    slow = small | {"plan": small["plan"] | {"learning_rate": 1e-4}}
    monkeypatch.setitem(ablations.SMALL, "cnn", slow)
    changes = {
        "only the start": {"config": {"width": 4}},
        "four channels more, twice as long": {"config": {"width": 8}, "longer": 2},
        "shipped": {"weights": "scout"},
    }
    monkeypatch.setitem(ablations.ABLATIONS, "cnn", changes)
    monkeypatch.setattr(ablations, "ABLATION_SAMPLES", 4)
    place = DATA, THESIS_FORMATS, tmp_path, tmp_path / "t.csv"
    ablations.ablate("cnn", *place, steps=4, seeds=2)
    # What is there is not trained again.
    monkeypatch.setattr(recipes, "train", None)
    table = ablations.ablate("cnn", *place, steps=4, seeds=2)
    assert list(table["change"]) == [*changes, "persistence"]
    assert list(table["examples"])[:2] == [16, 32]
    # So short a training is still persistence, and shipped weights are not.
    *trained, shipped, null = table["T80_TINC4"]
    assert max(trained) - min(trained) < 0.02 and shipped < null - 0.05
    # Two seeds are two runs: their mean, their standard deviation, and each of them.
    seeds = table[["T80_TINC4 seed 1", "T80_TINC4 seed 2"]].iloc[:2]
    notes = [json.loads((tmp_path / f"0-{seed}" / recipes.NOTE).read_text()) for seed in (1, 2)]
    assert [note["recipe"]["plan"]["seed"] for note in notes] == [1, 2]
    assert table["T80_TINC4"][:2].tolist() == pytest.approx(seeds.mean(axis=1), abs=1e-4)
    assert table["T80_TINC4 spread"][:2].tolist() == pytest.approx(seeds.std(axis=1), abs=1e-4)
    capsys.readouterr()


def test_cuts_are_compared_by_model_format_and_feedback(cache, tmp_path):
    """For one model: a cut at 0.5 of what is fed back is judged alike, whatever else differs."""
    out = tmp_path / "cuts.csv"
    table = cuts.compare(["scout"], DATA, [T80_TINC4], out, limit=2)
    pd.testing.assert_frame_equal(table, pd.read_csv(out))
    by = ["feedback", "cut", "horizon"]
    assert table.groupby(by).size().eq(1).all() and len(table) == 3 * 4 * 10
    assert set(table["n"]) == {2} and table["mean"].between(0, 1).all()
    # Before anything is fed back, all kinds of feedback are the same.
    first = table[table["horizon"] == 1].groupby("cut")["mean"].nunique()
    assert first.eq(1).all()


def test_every_ablation_is_a_recipe():
    for model, changes in ablations.ABLATIONS.items():
        for values in changes.values():
            if "weights" in values:  # judged only
                assert register.file_of(values["weights"]).exists()
                continue
            recipe = ablations.changed(model, 10, **values)
            assert set(recipe.described()) == set(recipes.recipe(model, 10).described())
            assert recipe.plan.steps == 10 * values.get("longer", 1)
            recipe.compile_options()
