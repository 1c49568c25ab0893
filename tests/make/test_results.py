"""`make results`: every model found, tables kept and not believed when stale, the pages."""

import dataclasses
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from data.make import results
from helpers import convlstm, metrics, published, rollout, wgan_gp, workshop
from helpers.models import cnn, register, surfacenet
from helpers.models.weights import read_card, save_weights
from helpers.sequences import FORMATS

DATA = workshop.REPOSITORY / "data" / "sample"
NOTE = {"minutes_in_all": 2.0, "examples_in_all": 30, "machine": {"device": "CPU"}}
TINY = cnn.Config(history=4, ahead=2, blocks=1, width=4, residual=20.0)


def lay(folder):
    """Write weights of two small networks."""
    folder.mkdir()
    note = NOTE | {"model": "cnn", "formats": ["T20_TINC1", "T80_TINC4"]}
    save_weights(folder / "cnn.npz", cnn.build(TINY), note)
    gan = wgan_gp.plain(critic_width=4, width=4, residual=20.0)
    note = NOTE | {"model": "wgan_gp", "formats": ["T80_TINC4"], "minutes_in_all": 7.0}
    save_weights(folder / "wgan_gp.npz", wgan_gp.build(gan), note)
    return folder


def make(weights, place, limit=3, **options):
    return results.make(DATA, place / "work", weights=weights, limit=limit, **options)


def judge(weights, place, limit=3):
    """Return the tables of each model in each format."""
    points, sample_id = results.samples_of_test(DATA, limit)
    return {
        (case.title, case.frame_format.name): results.evaluate(
            case, case.frame_format.select(points), sample_id, place / "work"
        )
        for case in results.cases(weights)
    }


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A folder with weights, the tables by sample that a call has left, and what it returned.

    What is forecast is persistence: networks as small say no more, and are slow to compile.
    """
    place = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORKSHOP_CACHE", str(place / "cache"))
        patched.setattr(register, "load", lambda *_, **__: rollout.Persistence())
        return place, make(lay(place / "weights"), place)


@pytest.fixture
def weights(judged, tmp_path, monkeypatch):
    """Copies of both folders; returns that of the weights. Loaded weights are noted in a list."""
    monkeypatch.setenv("WORKSHOP_CACHE", str(judged[0] / "cache"))
    for name in ("weights", "work"):
        shutil.copytree(judged[0] / name, tmp_path / name)
    return tmp_path / "weights"


@pytest.fixture
def loaded(monkeypatch):
    """The names of the weights that are judged, by persistence in their place."""
    found = []

    def load(path, *_, **__):
        found.append(path.stem)
        return rollout.Persistence()

    monkeypatch.setattr(register, "load", load)
    return found


def test_every_model_format_and_protocol(judged):
    found = judged[1]
    table = found["summary"]
    assert set(table["n"]) == {3} and set(table["cut"]) == set(metrics.CUTS)
    half = table[table["cut"] == "half"]
    kinds = half.groupby(["model", "format", "protocol", "history"]).size().to_dict()
    cases = ("CNN", "T20_TINC1"), ("CNN", "T80_TINC4"), ("WGAN-GP", "T80_TINC4")
    expected = {}
    for model, name in cases:
        for kind, count in {("pooled", 1): 1, ("per_frame", 1): 1, ("rollout", 5): 15}.items():
            expected[(model, name, *kind)] = count
        # Beside the thesis's GANs, and what their generator was before.
        for frames, shown in ((1, "one frame"), (3, "3 frames")):
            for kind, count in {("per_frame", frames): 1, ("rollout", frames): 5}.items():
                expected[(f"{model}, {shown}", name, *kind)] = count
    assert kinds == expected
    np.testing.assert_allclose(half["jaccard"], half["persistence"])
    np.testing.assert_allclose(half["difference"], 0)
    gan = table[table["model"] == "WGAN-GP, 3 frames"].iloc[0]
    assert gan["thesis"] == pytest.approx(0.3137, abs=1e-3)
    pooled = table.query("protocol == 'pooled' and format == 'T20_TINC1'").iloc[0]
    assert pooled["thesis"] == pytest.approx(0.0743, abs=1e-3)


def test_horizons_of_models_of_persistence_and_of_the_thesis(judged):
    found = judged[1]["horizons"]
    keys = ["kind", "model", "format", "cut", "history"]
    assert not found.duplicated(keys).any()
    skill = found.query("kind == 'skill' and format == 'T80_TINC4'").set_index("model")["steps"]
    assert skill.pop("thesis: ConvLSTM3D") == 5  # beside our persistence
    assert skill.eq(0).all() and "persistence" not in skill
    trust = found.query("kind == 'trust' and history == 5 and cut == 'half'")
    trust = trust.set_index(["model", "format"])["steps"]
    assert trust["CNN", "T20_TINC1"] == trust["persistence", "T20_TINC1"] > 0
    assert trust["thesis: ConvLSTM3D"].to_dict() == {"T20_TINC1": 5, "T80_TINC4": 3}


def test_a_pair_needs_the_same_files(weights, tmp_path, monkeypatch, loaded):
    file = tmp_path / "samples.csv"
    monkeypatch.setattr(published, "THESIS_SAMPLES", file)
    ours = judge(weights, tmp_path)["CNN", "T80_TINC4"]
    theirs = judge(weights, tmp_path, 2)["WGAN-GP", "T80_TINC4"]
    results.by_sample(table[table["protocol"] != "per_frame"] for table in theirs).to_csv(file)
    pairs = pd.concat(results.paired(ours))
    assert set(pairs["model"]) == {"CNN"} and set(pairs["format"]) == {"T80_TINC4"}
    assert len(pairs) == 2 * 6 and set(pairs["n"]) == {2} and "per_frame" not in pairs["protocol"]
    np.testing.assert_allclose(pairs["mean"], 0, atol=1e-5)  # theirs have five digits
    fewer = [table[table["sample"] == table["sample"].min()] for table in ours]
    assert results.paired(fewer) == []  # perhaps other records with the same numbers


def test_what_a_model_costs(weights):
    table = results.costs(results.cases(weights))
    table = table.drop_duplicates("model").set_index("model")
    assert list(table.index) == ["CNN", "WGAN-GP", "thesis: ConvLSTM3D"]
    assert table["training_sequences"].tolist() == [30, 30, 160_000]
    assert table["training_minutes"].tolist() == [2, 7, 358]
    thesis = convlstm.multiply_adds(convlstm.thesis()) / 1e6
    assert table.loc["thesis: ConvLSTM3D", "million_five_frames"] == round(25 * thesis)
    (own, *_) = results.cases(names=["convlstm"])
    once = convlstm.multiply_adds(convlstm.Config(**own.record["configuration"])) / 1e6
    cost = own.cost()
    assert cost["million_next_frame"] == round(5 * once)
    assert cost["million_five_frames"] == round(9 * once)  # it reads what it has forecast


def test_a_scout_belongs_to_its_surfacenet(weights):
    config = surfacenet.Config(history=4, ahead=2, radius=1, blocks=1, width=4, layers=0)
    note = NOTE | {"model": "surfacenet", "formats": ["T80_TINC4"]}
    save_weights(weights / "surfacenet.npz", surfacenet.build(config), note)
    (alone,) = found = results.cases(weights, ["surfacenet"])
    frames, numbers = np.zeros((1, 2, 4, 4, 4), np.uint8), np.arange(1)
    before, cost = results._digest(alone, frames, numbers), alone.cost()
    small = dataclasses.replace(config, blocks=0)
    note = NOTE | {"model": "scout", "formats": ["T80_TINC4"]}
    save_weights(weights / "scout.npz", surfacenet.build(small), note)
    assert results.cases(weights, ["surfacenet"]) == found
    assert results._digest(alone, frames, numbers) != before  # older tables are stale
    scouted = alone.cost()
    assert scouted["parameters"] == cost["parameters"] + surfacenet.build(small).count_params()
    assert scouted["training_minutes"] == cost["training_minutes"] + 2 == 4
    multiplied = surfacenet.multiply_adds(config, 1800, small) / 1e6
    assert scouted["million_next_frame"] == round(multiplied)
    with pytest.raises(FileNotFoundError, match="weights scout that forecast by themselves"):
        results.cases(weights, ["scout"])


def test_side_by_side_gives_the_same(weights, tmp_path):
    shutil.rmtree(tmp_path / "work")
    one, two = (
        make(weights, tmp_path / str(n), names=["wgan_gp"], processes=n)["summary"] for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("change", ["nothing", "weights", "samples", "interrupted"])
def test_stale_tables_are_not_used(weights, tmp_path, loaded, change):
    limit = 2 if change == "samples" else 3
    if change == "interrupted":
        for path in (tmp_path / "work").glob("CNN*rollout.csv"):
            path.unlink()
    elif change == "weights":
        path = weights / "cnn.npz"
        model = cnn.build(TINY)
        model.trainable_variables[0].assign_add(np.ones(model.trainable_variables[0].shape))
        path.unlink()
        save_weights(path, model, NOTE | {"model": "cnn", "formats": ["T20_TINC1", "T80_TINC4"]})
    for _, rollouts in judge(weights, tmp_path, limit).values():
        assert rollouts["sample"].nunique() == limit
    assert loaded.count("cnn") == 6 * (change != "nothing")
    assert loaded.count("wgan_gp") == 3 * (change == "samples")


def test_models_are_chosen_by_their_names(tmp_path):
    found = results.cases(names=["convlstm", "surfacenet"])
    formats = [case.frame_format.name for case in found if case.title == "ConvLSTM"]
    assert formats == list(FORMATS) and len(found) == 3 + 3
    with pytest.raises(FileNotFoundError, match="weights wgan that forecast"):
        results.cases(names=["cnn", "wgan"])
    with pytest.raises(FileNotFoundError, match="holds no weights that forecast"):
        results.cases(tmp_path)


def test_marks_are_asked_for_before_anything_is_written(judged, tmp_path):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    marked = f"before {results.MARKS[0]} made before {results.MARKS[1]} after"
    good.write_text(marked)
    bad.write_text("no marks")
    found, out = judged[1], tmp_path / "out"
    with pytest.raises(ValueError, match=r"bad\.md must hold the marks"):
        results.write(found, out, {good: results.page, bad: results.overview})
    assert good.read_text() == marked and bad.read_text() == "no marks" and not out.exists()
    bad.write_text(marked)
    results.write(found, out, {good: results.page, bad: results.overview})
    for path in (good, bad):
        text = path.read_text()
        assert text.startswith("before ") and text.endswith(" after")
        assert "made before" not in text
    assert "CNN" not in bad.read_text() and "WGAN-GP" in bad.read_text()
    page = good.read_text()
    line = next(each for each in page.splitlines() if each.startswith("| CNN |"))
    assert line.split(" | ")[2] == "–" and line.count(" ± ") == 2  # there is no T40
    assert "| WGAN-GP |" in page and "| 30 | 2 | CPU |" in page


def test_bold_is_what_beats_the_thesis_and_persistence():
    table = published.course_results()["summary"]
    place = (table["model"] == "SurfaceNet") & (table["horizon"] == results.HORIZON)
    place &= (table["format"] == "T40_TINC2") & (table["cut"] == results.CUT)

    def line(**changes) -> str:
        changed = table.copy()
        for name, value in changes.items():
            changed.loc[place, name] = value
        rows = results.overview({"summary": changed}).splitlines()
        return next(row for row in rows if row.startswith("| SurfaceNet |"))

    assert "**0.427 (0.550)**" in line()
    for changes in ({"difference_high": 0.001}, {"high": 0.56}):
        assert " 0.427 (0.550) " in line(**changes)


@pytest.mark.parametrize("part", [["--data", "x", "--limit", "3"], ["--data", str(DATA)]])
def test_a_part_needs_a_place_of_its_own(capsys, part):
    with pytest.raises(SystemExit):
        results.main([*part, "--work", "y"])
    assert "give --out" in capsys.readouterr().err


def test_the_readme_has_the_results_that_matter():
    text = results.README.read_text("utf-8")
    shown = results.overview(published.course_results())
    assert shown in text
    # Each row once more, from both files: ours, and in brackets the thesis's.
    ours, theirs = published.course_results()["summary"], published.thesis_figures()
    theirs = theirs[theirs["measure"] == "prediction_jaccard"]

    def figures(table, column, model, protocol) -> list[str]:
        if "cut" in table:
            table = table[table["cut"] == ("half" if protocol == "per_frame" else results.CUT)]
        chosen = table[table["model"] == model].set_index(["protocol", "horizon", "format"])[column]
        places = itertools.product([(protocol, 1), ("rollout", 5)], FORMATS)
        return [f"{chosen[(*place, name)]:.3f}" for place, name in places]

    rows = [line.strip("| ").split(" | ") for line in shown.splitlines()[2:]]
    expected = []
    for protocol, kin, kind, titles in (
        ("pooled", "ConvLSTM3D", "the ConvLSTM", ("ConvLSTM", "SurfaceNet")),
        ("per_frame", "AEncGAN3D three-frame", "the GAN", ("WGAN-GP, 3 frames",)),
    ):
        null = figures(ours, "persistence", titles[0], protocol)
        expected.append([f"persistence, judged as {kind}", "–", *null])
        known = figures(theirs, "mean", kin, protocol)
        for title in titles:
            pairs = zip(figures(ours, "jaccard", title, protocol), known, strict=True)
            cells = [f"{own} ({other})" for own, other in pairs]
            expected.append([title, "25,600 (10,000)", *cells])
    assert [[cell.strip("*") for cell in row] for row in rows] == expected
    for case in results.cases(names=["convlstm", "surfacenet", "wgan_gp"]):
        assert case.record["data"].startswith("25600 training samples")


def test_the_results_page_says_what_the_tables_say():
    text = (results.RESULTS / "README.md").read_text("utf-8")
    assert results.page(published.course_results()) in text
    table = published.course_results()["summary"]
    assert {case.title for case in results.cases()} == set(table["model"])
    # Of the same weights as those that lie there.
    index = ["model", "format", "cut", "protocol", "horizon"]
    means = table[table["horizon"] <= 5].drop_duplicates(index).set_index(index)["jaccard"]
    for case in (case for case in results.cases() if not case.frames):
        figures = case.record["test"][case.frame_format.name]
        assert len(figures) == 7
        for place, each in figures.items():
            protocol, horizon = place.split(", horizon ")
            key = case.title, case.frame_format.name, case.cut, protocol, int(horizon)
            assert means[key] == each["prediction"]["mean"]


def test_cards_hold_the_figures_of_the_tables(judged, weights):
    found = judged[1]
    results.note_in_cards(found, weights)
    figures = read_card(weights / "wgan_gp.npz")["test"]["T80_TINC4"]
    rollouts = [f"rollout, horizon {step}" for step in range(1, 6)]
    assert list(figures) == ["pooled, horizon 1", "per_frame, horizon 1", *rollouts]
    table = found["summary"].query("cut == @results.CUT and protocol == 'per_frame'")
    mean = table.set_index("model").loc["WGAN-GP", "jaccard"]
    figure = figures["per_frame, horizon 1"]["prediction"]
    assert figure["mean"] == pytest.approx(mean, abs=1e-5) and figure["n"] == 3
