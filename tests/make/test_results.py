"""`make results`: every model found, tables kept and not believed when stale, the pages."""

import dataclasses
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from data.make import results
from helpers import metrics, published, rollout, wgan_gp, workshop
from helpers.models import cnn, register, surfacenet
from helpers.models.weights import read_card, save_weights
from helpers.sequences import FORMATS

DATA = workshop.REPOSITORY / "data" / "sample"
NOTE = {"minutes": 2.0, "machine": {"device": "CPU"}}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A folder with two untrained models, and one with the tables of a first call."""
    place = tmp_path_factory.mktemp("results")
    folder = place / "weights"
    folder.mkdir()
    sure = {"width": 4, "residual": 20.0}  # so that untrained networks are persistence
    tiny = cnn.Config(history=4, ahead=2, blocks=1, **sure)
    note = {**NOTE, "model": "cnn", "formats": ["T20_TINC1", "T80_TINC4"]}
    save_weights(folder / "cnn.npz", cnn.build(tiny), note)
    gan = wgan_gp.plain(critic_width=4, **sure)
    began = {"began_with": {"sha256": "alone", "minutes": 5.0}}
    note = {**NOTE, "model": "wgan_gp", "formats": ["T80_TINC4"], **began}
    save_weights(folder / "wgan_gp.npz", wgan_gp.build(gan), note)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORKSHOP_CACHE", str(place / "cache"))
        make(folder, place)
    return place


@pytest.fixture
def weights(judged, tmp_path, monkeypatch):
    """Copies of both folders; returns that of the weights."""
    monkeypatch.setenv("WORKSHOP_CACHE", str(judged / "cache"))
    for name in ("weights", "work"):
        shutil.copytree(judged / name, tmp_path / name)
    return tmp_path / "weights"


def make(weights, tmp_path, **options):
    return results.make(DATA, tmp_path / "work", weights=weights, **{"limit": 3} | options)


def test_every_model_format_and_protocol(weights, tmp_path):
    found = make(weights, tmp_path)
    table = found["summary"]
    assert set(table["n"]) == {3}
    assert set(table["cut"]) == set(metrics.CUTS)
    half = table[table["cut"] == "half"]
    kinds = half.groupby(["model", "format", "protocol", "history"]).size()
    assert kinds.to_dict() == {
        **{
            ("CNN", name, *kind): count
            for name in ("T20_TINC1", "T80_TINC4")
            for kind, count in {("pooled", 1): 1, ("per_frame", 1): 1, ("rollout", 5): 15}.items()
        },
        ("WGAN-GP", "T80_TINC4", "pooled", 1): 1,
        ("WGAN-GP", "T80_TINC4", "per_frame", 1): 1,
        ("WGAN-GP", "T80_TINC4", "rollout", 5): 15,
        # Beside the thesis's GANs, and what their generator was before.
        **{
            (f"{model}, {shown}", name, *kind): count
            for model, name in (
                ("CNN", "T20_TINC1"),
                ("CNN", "T80_TINC4"),
                ("WGAN-GP", "T80_TINC4"),
            )
            for frames, shown in ((1, "one frame"), (3, "3 frames"))
            for kind, count in {("per_frame", frames): 1, ("rollout", frames): 5}.items()
        },
    }
    # Untrained networks are persistence.
    np.testing.assert_allclose(half["jaccard"], half["persistence"])
    np.testing.assert_allclose(half["difference"], 0)
    gan = table[table["model"] == "WGAN-GP, 3 frames"].iloc[0]
    assert gan["thesis"] == pytest.approx(0.3137, abs=1e-3) and gan["training_minutes"] == 7
    pooled = table.query("protocol == 'pooled' and format == 'T20_TINC1'").iloc[0]
    assert pooled["thesis"] == pytest.approx(0.0743, abs=1e-3)
    assert set(found["skill_horizons"]["steps"]) == {0}
    assert set(found["skill_horizons"]["model"]) == {
        f"{model}{few}" for model in ("CNN", "WGAN-GP") for few in ("", ", one frame", ", 3 frames")
    }


def test_a_scout_belongs_to_its_surfacenet(weights, tmp_path):
    config = surfacenet.Config(history=4, ahead=2, radius=1, blocks=1, width=4, layers=0)
    note = {**NOTE, "model": "surfacenet", "formats": ["T80_TINC4"]}
    save_weights(weights / "surfacenet.npz", surfacenet.build(config), note)
    (alone,) = found = results.cases(weights, ["surfacenet"])
    points, sample_id = results._samples(DATA, 3)
    frames = alone.frame_format.select(points)
    before, cost = results._note(alone, frames, sample_id), alone.cost()
    small = dataclasses.replace(config, blocks=0)
    # It began with the weights of the SurfaceNet, whose minutes do not count a second time.
    note = {**NOTE, "model": "scout", "formats": ["T80_TINC4"], "began_with": alone.record}
    save_weights(weights / "scout.npz", surfacenet.build(small), note)
    assert results.cases(weights, ["surfacenet", "scout"]) == found
    assert results._note(alone, frames, sample_id) != before  # older tables are stale
    scouted = alone.cost()
    assert scouted["parameters"] == cost["parameters"] + surfacenet.build(small).count_params()
    assert scouted["training_minutes"] == cost["training_minutes"] + 2 == 4
    assert scouted["hardware"] == "CPU"
    assert scouted["million_multiply_adds"] == pytest.approx(
        surfacenet.multiply_adds(config, scout=small) / 1e6, abs=0.06
    )


def test_a_second_call_judges_nothing_again(weights, tmp_path, monkeypatch):
    before = make(weights, tmp_path)
    monkeypatch.setattr(register, "load", lambda *a, **k: pytest.fail("judged again"))
    after = make(weights, tmp_path)
    pd.testing.assert_frame_equal(before["summary"], after["summary"])


@pytest.mark.slow  # starts two processes
def test_side_by_side_gives_the_same(weights, tmp_path):
    before = make(weights, tmp_path)
    for path in (tmp_path / "work").glob("cnn*"):
        path.unlink()
    tables = ["cnn, T20_TINC1.json", "cnn, T80_TINC4.json"]
    kept = (tmp_path / "work" / "wgan_gp, T80_TINC4.json").stat().st_mtime_ns
    results._side_by_side(
        results.cases(weights),
        *results._samples(DATA, 3),
        tmp_path / "work",
        (DATA, 3),
        processes=2,
    )
    assert all((tmp_path / "work" / name).exists() for name in tables)
    assert (tmp_path / "work" / "wgan_gp, T80_TINC4.json").stat().st_mtime_ns == kept
    after = make(weights, tmp_path, processes=2)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, after[name])


def test_what_was_interrupted_is_taken_up(weights, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "work")
    loaded = []

    def breaks(path, *args, **options):
        if len(loaded) == 7:
            raise KeyboardInterrupt
        loaded.append(path)
        return rollout.Persistence()

    monkeypatch.setattr(register, "load", breaks)
    with pytest.raises(KeyboardInterrupt):
        make(weights, tmp_path)
    loaded.clear()
    make(weights, tmp_path)
    assert [path.stem for path in loaded] == ["wgan_gp"] * 2


@pytest.mark.parametrize("change", ["weights", "samples", "code", "torn note", "cut table"])
def test_stale_tables_are_not_used(weights, tmp_path, monkeypatch, change):
    limit = 3
    if change == "samples":
        limit = 2
    elif change == "code":
        monkeypatch.setattr(results, "_code", lambda: "of tomorrow")
    elif change == "torn note":
        for path in (tmp_path / "work").glob("cnn*.json"):
            path.write_text(path.read_text()[:20])
    elif change == "cut table":  # at the end of a line, so that what is left is a table
        for path in (tmp_path / "work").glob("*.csv"):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    else:
        path = weights / "cnn.npz"
        record = read_card(path)
        model = cnn.build(cnn.Config(**record.pop("configuration")))
        model.trainable_variables[0].assign_add(np.ones(model.trainable_variables[0].shape))
        path.unlink()
        kept = {k: record[k] for k in ("minutes", "machine", "model", "formats")}
        save_weights(path, model, kept)
    loaded = []

    def counted(path, *args, **options):
        loaded.append(path.stem)
        return rollout.Persistence()  # as the untrained networks, without their computation

    monkeypatch.setattr(register, "load", counted)
    assert set(make(weights, tmp_path, limit=limit)["summary"]["n"]) == {limit}
    assert loaded.count("cnn") == 6
    assert loaded.count("wgan_gp") == 3 * (change in ("samples", "code", "cut table"))


def test_the_page_has_a_dash_where_there_is_nothing(weights, tmp_path):
    found = make(weights, tmp_path)
    page = results.page(found)
    pooled = page.split("\n*Next frame*")[1]
    (line,) = (each for each in pooled.splitlines() if each.startswith("| CNN"))
    assert line.split(" | ")[2] == "–" and line.count(" ± ") == 2
    row = found["summary"].query("cut == @results.CUT").iloc[0]
    assert f"{row['jaccard']:.4f} ± " in line and row["protocol"] == "pooled"
    line, other = (each for each in page.splitlines() if "WGAN" in each and "(0.3137)" in each)
    assert other.count("–") == 2  # by the other cut
    assert line.count("–") == 2


def test_the_page_tells_what_a_model_costs(weights, tmp_path):
    costs = results.page(make(weights, tmp_path)).split("What it costs")[1]
    assert "| ConvLSTM3D of the thesis | 762,017 |" in costs
    (line,) = (each for each in costs.splitlines() if each.startswith("| CNN |"))
    assert "minutes: 2 for all formats; " in line


def test_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        results.cases(tmp_path)
    with pytest.raises(FileNotFoundError, match="convlstm; there are: none"):
        results.cases(tmp_path, ["convlstm"])


def test_models_are_chosen_by_their_names():
    assert {case.path.stem for case in results.cases(names=["wgan_gp"])} == {"wgan_gp"}
    found = results.cases(names=["convlstm", "wgan_gp"])
    formats = [case.frame_format.name for case in found if case.title == "ConvLSTM"]
    assert formats == list(FORMATS) and len(found) == 3 + 9
    with pytest.raises(FileNotFoundError, match="scout that forecast by themselves"):
        results.cases(names=["scout"])
    with pytest.raises(FileNotFoundError, match="weights wgan; there are: cnn, convlstm"):
        results.cases(names=["cnn", "wgan"])


def test_marks_are_asked_for_before_anything_is_written(weights, tmp_path):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    marked = f"before {results.MARKS[0]} made before {results.MARKS[1]} after"
    good.write_text(marked)
    bad.write_text("no marks")
    found, out = make(weights, tmp_path), tmp_path / "out"
    with pytest.raises(ValueError, match=r"bad\.md must hold the marks"):
        results.write(found, out, {good: results.page, bad: results.overview})
    assert good.read_text() == marked and bad.read_text() == "no marks" and not out.exists()
    bad.write_text(marked)
    results.write(found, out, {good: results.page, bad: results.overview})
    for path in (good, bad):
        text = path.read_text()
        assert text.startswith("before ") and text.endswith(" after")
        assert "made before" not in text
    assert "CNN" in good.read_text() and "CNN" not in bad.read_text()
    assert "WGAN-GP" in bad.read_text()


def test_bold_is_what_beats_the_thesis_and_persistence():
    table = published.course_results()["summary"]
    place = (table["model"] == "SurfaceNet") & (table["horizon"] == results.HORIZON)
    place &= (table["format"] == "T40_TINC2") & (table["cut"] == results.CUT)

    def line(**changes) -> str:
        changed = table.copy()
        for name, value in changes.items():
            changed.loc[place, name] = value
        (row,) = (
            each
            for each in results.overview({"summary": changed}).splitlines()
            if each.startswith("| SurfaceNet |")
        )
        return row

    assert "**0.427 (0.550)**" in line()
    for changes in ({"difference_high": 0.001}, {"high": 0.56}):
        assert " 0.427 (0.550) " in line(**changes)


def test_a_part_needs_a_place_of_its_own(capsys):
    for data, part in (
        ("x", ["--limit", "3"]),
        ("x", ["--weights", "w"]),
        (str(DATA), []),
    ):
        with pytest.raises(SystemExit):
            results.main(["--data", data, "--work", "y", *part])
        assert "give --out" in capsys.readouterr().err


def test_every_shipped_file_has_a_title_and_a_cost():
    for case in results.cases():
        assert case.title.partition(",")[0] in results.TITLES.values()
        cost = case.cost()
        assert cost["parameters"] > 1e5 and cost["million_multiply_adds"] > 50
        assert cost["training_minutes"] > 10


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
    if not (results.RESULTS / "summary.csv").exists():
        pytest.skip("data/results/summary.csv is not there yet")
    text = (results.RESULTS / "README.md").read_text("utf-8")
    assert results.page(published.course_results()) in text
    table = published.course_results()["summary"]
    assert {case.title for case in results.cases()} == set(table["model"])
    # Of the same weights as those that lie there.
    for case in (case for case in results.cases() if not case.frames):
        figures = case.record["test"][case.frame_format.name]
        assert len(figures) == 7
        for place, each in figures.items():
            protocol, horizon = place.split(", horizon ")
            row = table[
                (table["model"] == case.title)
                & (table["format"] == case.frame_format.name)
                & (table["protocol"] == protocol)
                & (table["horizon"] == int(horizon))
                & (table["cut"] == case.cut)
            ]
            assert row["jaccard"].item() == each["prediction"]["mean"]


def test_cards_hold_the_figures_of_the_tables(weights, tmp_path):
    found = make(weights, tmp_path)
    results.note_in_cards(found, weights)
    card = read_card(weights / "wgan_gp.npz")
    rollouts = [f"rollout, horizon {step}" for step in range(1, 6)]
    assert list(card["test"]["T80_TINC4"]) == [
        "pooled, horizon 1",
        "per_frame, horizon 1",
        *rollouts,
    ]
    table = found["summary"].query("cut == @results.CUT and protocol == 'per_frame'")
    (row,) = (row for _, row in table.iterrows() if row["model"] == "WGAN-GP")
    figure = card["test"]["T80_TINC4"]["per_frame, horizon 1"]["prediction"]
    assert figure["mean"] == pytest.approx(row["jaccard"], abs=1e-5) and figure["n"] == 3
    assert register.load(weights / "wgan_gp.npz", FORMATS["T80_TINC4"])  # still the same weights


def test_the_page_sets_a_model_beside_the_thesis_s_sample_by_sample():
    rows = [
        {"model": "CNN", "cut": cut, "protocol": protocol, "horizon": horizon, "format": name}
        for cut, name in itertools.product(("half", "expected"), FORMATS)
        for protocol, horizon in [("pooled", 1), *(("rollout", step) for step in range(1, 6))]
    ]
    pairs = pd.DataFrame(rows).assign(mean=-0.01, low=-0.02, high=-0.005)
    pairs.loc[pairs["protocol"] == "pooled", "high"] = 0.001
    lines = results._beside_the_thesis(pairs)
    assert sum("both cut" in line for line in lines) == 2
    assert sum(line.startswith("| next frame, pooled | -0.0100 [") for line in lines) == 2
    assert sum("| 5 steps ahead | **-0.0100 [-0.0200, -0.0050]** |" in line for line in lines) == 2
