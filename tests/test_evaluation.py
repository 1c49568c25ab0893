"""Tables of results: what they hold, their intervals, their files, and the thesis beside them."""

import csv
import gzip
import math
import shutil
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest

from data.make.results import by_sample
from helpers import evaluation, metrics, published, topology, workshop
from helpers.records import read_sample, record_paths
from helpers.rollout import Persistence, next_frames, rollout
from helpers.sequences import THESIS_FORMATS, FrameFormat

Format = namedtuple("Format", "name steps")  # the two attributes of a FrameFormat that count here


class Fading:
    """Forecasts the last frame, faded and shifted by one voxel; counts its calls."""

    name = "fading"

    def __init__(self):
        self.calls = 0

    def __call__(self, history):
        self.calls += 1
        return 0.7 * history[:, -1] + 0.3 * np.roll(history[:, -1], 1, axis=-1) * history[:, 0]


class Faint(Fading):
    """Forecasts the same with less certainty, so that it matters where it is cut."""

    def __call__(self, history):
        return 0.6 * super().__call__(history)


@pytest.fixture
def sequences(rng):
    """Blobs that move: uint8 (7, 10, 6, 6, 6), with an empty frame and an empty sequence."""
    start = rng.random((7, 1, 6, 6, 6)) < 0.2
    frames = np.concatenate([np.roll(start, t // 2, axis=-1) for t in range(10)], axis=1)
    frames ^= rng.random(frames.shape) < 0.02
    frames[1, 4] = False
    frames[5] = False
    return frames.astype(np.uint8)


@pytest.fixture
def short(sequences):
    """A table of next frames."""
    return evaluation.next_frame(Fading(), sequences, frame_format="T20_TINC1")


@pytest.fixture
def long(sequences):
    """A table of rollouts."""
    return evaluation.long_term(Fading(), sequences, history=3, horizon=4)


def mse(one, other, axes):
    return ((one.astype(float) - other) ** 2).mean(axis=axes)


@pytest.mark.parametrize("protocol", ["pooled", "per_frame"])
@pytest.mark.parametrize("first", [1, 3])
def test_next_frame_agrees_with_the_metrics(sequences, protocol, first):
    table = evaluation.next_frame(Fading(), sequences, protocol, first=first, batch_size=3)
    assert list(table.columns) == [
        *("model", "format", "protocol", "cut", "history", "horizon", "sample"),
        *("prediction_jaccard", "persistence_jaccard", "input_jaccard"),
        *("prediction_mse", "persistence_mse", "input_mse"),
    ]
    labels = table[["model", "format", "protocol", "cut"]]
    assert (labels == ["fading", "any", protocol, "half"]).all(axis=None)
    assert (table[["history", "horizon"]] == [first, 1]).all(axis=None)
    assert table["sample"].tolist() == list(range(7))
    guess = next_frames(Fading(), sequences, first=first)
    truth, before = sequences[:, first:], sequences[:, first - 1 : -1]
    distance = getattr(metrics, protocol)
    for what, (one, other) in {
        "prediction": (truth, guess),
        "persistence": (truth, before),
        "input": (before, guess),
    }.items():
        np.testing.assert_array_equal(table[f"{what}_jaccard"], distance(one, other))
        expected = mse(one, other, (1, 2, 3, 4))
        np.testing.assert_allclose(table[f"{what}_mse"], expected, rtol=1e-6)
    one_by_one = [metrics.persistence(sequences[:, :t])[:, 0] for t in range(first, 10)]
    np.testing.assert_array_equal(before, np.stack(one_by_one, axis=1))


def test_both_protocols_from_one_run(sequences):
    fading = Fading()
    both = evaluation.next_frame(fading, sequences, ("pooled", "per_frame"), batch_size=4)
    assert fading.calls == 9 * 2  # frames times batches: nothing is forecast twice
    apart = [evaluation.next_frame(Fading(), sequences, p) for p in ("pooled", "per_frame")]
    pd.testing.assert_frame_equal(both, evaluation.combine(*apart))
    assert not np.array_equal(apart[0]["prediction_jaccard"], apart[1]["prediction_jaccard"])


@pytest.mark.parametrize("judge", [evaluation.next_frame, evaluation.long_term])
def test_both_cuts_from_one_run(sequences, judge):
    """A cut changes distances of the forecast, none of a null model, and no squared error."""
    options = {"shape": True} if judge is evaluation.long_term else {}
    faint = Faint()
    both = judge(faint, sequences, cut=metrics.CUTS, **options)
    assert faint.calls == (5 if options else 9)  # nothing is forecast twice
    half, expected = (judge(Faint(), sequences, cut=rule, **options) for rule in metrics.CUTS)
    pd.testing.assert_frame_equal(both, evaluation.combine(half, expected))
    pd.testing.assert_frame_equal(half, judge(Faint(), sequences, **options))
    changed = {column for column in half if not half[column].equals(expected[column])}
    assert {"cut", "prediction_jaccard", "input_jaccard"} <= changed
    for column in changed - {"cut", "input_jaccard", "moving_input_jaccard"}:
        assert column.startswith("prediction") and column != "prediction_mse"
    assert ("prediction_components" in changed) == bool(options)
    nulls = [judge(Persistence(), sequences, cut=rule) for rule in metrics.CUTS]
    pd.testing.assert_frame_equal(*(table.drop(columns="cut") for table in nulls))


def test_the_expected_cut_is_that_of_the_metrics(sequences):
    table = evaluation.long_term(Faint(), sequences, history=3, horizon=4, cut="expected")
    guess = metrics.cut(rollout(Faint(), sequences[:, :3], 4), "expected")
    found = metrics.jaccard_distance(sequences[:, 3:7], guess)
    np.testing.assert_array_equal(table["prediction_jaccard"], found.ravel())


def test_figures_of_two_cuts_never_meet(sequences):
    both = evaluation.long_term(Fading(), sequences, cut=metrics.CUTS)
    found = evaluation.means(both)
    assert len(found) == 2 * 5 * 10 and set(found["cut"]) == set(metrics.CUTS)
    assert evaluation.skill_horizon(both)["cut"].tolist() == list(metrics.CUTS)
    assert evaluation.cases(both, 1)["cut"].tolist() == ["half"] * 2 + ["expected"] * 2
    with pytest.raises(ValueError, match="mixes the cuts half, expected.*Add 'cut' to by"):
        evaluation.means(both, ["model", "horizon"])
    with pytest.raises(ValueError, match="The table mixes the cuts half, expected.*'cut'"):
        evaluation.overview(both)
    one = both[both["cut"] == "expected"]
    assert "fading" in evaluation.overview(one).index


@pytest.mark.parametrize("feedback", ["probability", "half", "expected"])
def test_long_term_agrees_with_the_metrics(sequences, feedback):
    table = evaluation.long_term(
        Fading(), sequences, history=3, horizon=4, feedback=feedback, keep=3, batch_size=2
    )
    assert len(table) == 7 * 4 and table["protocol"].eq("rollout").all()
    assert table["history"].eq(3).all()
    history, truth = sequences[:, :3], sequences[:, 3:7]
    guess = rollout(Fading(), history, 4, feedback=feedback, keep=3)
    last, before = metrics.persistence(history, 4), metrics.moving_null(history, truth)
    for sample in range(7):
        rows = table[table["sample"] == sample]
        assert rows["horizon"].tolist() == [1, 2, 3, 4]
        for what, (one, other) in {
            "prediction": (truth, guess),
            "persistence": (truth, last),
            "input": (last, guess),
            "moving_null": (truth, before),
            "moving_input": (before, guess),
        }.items():
            expected = metrics.jaccard_distance(one[sample], other[sample])
            np.testing.assert_array_equal(rows[f"{what}_jaccard"], expected)
            expected = mse(one[sample], other[sample], (1, 2, 3))
            np.testing.assert_allclose(rows[f"{what}_mse"], expected, rtol=1e-6)


def test_persistence_is_judged_equal_to_persistence(sequences):
    for table in (
        evaluation.next_frame(Persistence(), sequences, ("pooled", "per_frame")),
        evaluation.long_term(Persistence(), sequences),
    ):
        for kind in ("jaccard", "mse"):
            assert table[f"prediction_{kind}"].equals(table[f"persistence_{kind}"])
            assert table[f"input_{kind}"].eq(0).all()
        difference = evaluation.skill(table)
        assert difference[["mean", "low", "high", "std"]].eq(0).all(axis=None)
    (found,) = evaluation.skill_horizon(table).itertuples()
    assert (found.steps, found.low, found.high, found.shown, found.longest) == (0, 0, 0, 0, 5)
    first = table[table["horizon"] == 1]
    assert first["moving_null_jaccard"].equals(first["persistence_jaccard"])
    assert not table["moving_null_jaccard"].equals(table["persistence_jaccard"])


@pytest.mark.parametrize("dtype", [bool, np.float64])
def test_any_dtype_and_any_batches_give_the_same_table(sequences, short, long, dtype):
    other = sequences.astype(dtype)
    found = evaluation.next_frame(Fading(), other, frame_format="T20_TINC1", batch_size=2)
    pd.testing.assert_frame_equal(found, short)
    other[:, 7:] = 1 - other[:, 7:].astype(int)  # what lies after the horizon is not used
    found = evaluation.long_term(Fading(), other, history=3, horizon=4, batch_size=2)
    pd.testing.assert_frame_equal(found, long)


def test_labels_of_the_rows(sequences):
    labels = {"frame_format": Format("T20_TINC2", 10), "name": "mine", "sample_id": range(9, 2, -1)}
    found = evaluation.next_frame(Fading(), sequences, **labels)
    assert found["model"].eq("mine").all() and found["format"].eq("T20_TINC2").all()
    assert found["sample"].tolist() == [9, 8, 7, 6, 5, 4, 3]


@pytest.mark.parametrize("judge", [evaluation.next_frame, evaluation.long_term])
def test_nothing_is_forecast_where_something_is_wrong(sequences, judge):
    spoilt = sequences.astype(float)
    spoilt[6, 8] = np.nan  # in the last batch, in a frame that a rollout does not use
    fading = Fading()
    for options, error, words in (
        ({"sequences": spoilt}, ValueError, "NaN"),
        ({"sequences": sequences[..., None]}, ValueError, "channel"),
        ({"sequences": sequences[0]}, ValueError, "newaxis"),
        ({"sequences": sequences[:, :0]}, ValueError, "0 frames"),
        ({"sample_id": [1, 2]}, ValueError, "7 different whole numbers"),
        ({"sample_id": [1, 2, 3, 4, 5, 6, 6]}, ValueError, "different"),
        ({"sample_id": [1.0, 2, 3, 4, 5, 6, 7]}, ValueError, "whole"),
        ({"frame_format": Format("T20_TINC1", 20)}, ValueError, "10 frames, T20_TINC1 has 20"),
        ({"name": " "}, ValueError, "name="),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ):
        with pytest.raises(error, match=words):
            judge(**{"forecaster": fading, "sequences": sequences, **options})
    assert fading.calls == 0  # an hour of forecasts must not be spent first
    with pytest.raises(ValueError, match="give one with name"):
        judge(lambda history: history[:, -1], sequences)
    with pytest.raises(TypeError, match="not a forecaster"):
        judge(None, sequences, name="none")


def test_bad_options(sequences):
    for judge, options, words in (
        (evaluation.next_frame, {"protocol": "mean"}, "choose one of pooled, per_frame"),
        (evaluation.next_frame, {"first": 10}, "10 frames.* 11 frames"),
        (evaluation.long_term, {"history": 0}, "history is 0"),
        (evaluation.long_term, {"history": 6, "horizon": 5}, "10 frames.* 11 frames"),
        (evaluation.long_term, {"feedback": "truth"}, "feedback"),
        (evaluation.long_term, {"cut": "best"}, "cut is 'best'; choose one of half, expected"),
        (evaluation.next_frame, {"cut": ("half", "best")}, "cut is 'best'"),
    ):
        with pytest.raises(ValueError, match=words):
            judge(Fading(), sequences, **options)


def rolled(differences, *, model="made", frame_format="T20_TINC1", history=5, persistence=0.5):
    """A table of rollouts with given differences to persistence (samples, horizons)."""
    differences = np.asarray(differences, float)
    count, horizons = differences.shape
    columns = {
        f"{what}_{kind}": persistence
        for kind in ("jaccard", "mse")
        for what in ("persistence", "input", "moving_null", "moving_input")
    }
    return evaluation.checked(
        pd.DataFrame(
            {
                "model": model,
                "format": frame_format,
                "protocol": "rollout",
                "cut": "half",
                "history": history,
                "horizon": np.tile(np.arange(1, horizons + 1), count),
                "sample": np.repeat(np.arange(count), horizons),
                **columns,
                "prediction_jaccard": persistence + differences.ravel(),
                "prediction_mse": persistence - differences.ravel(),
            }
        )
    )


def row(table, measure="prediction_jaccard"):
    (found,) = table[table["measure"] == measure].itertuples()
    return found


def test_means_are_those_of_the_samples(short, long):
    found = evaluation.means(short)
    assert list(found.columns) == [
        *("model", "format", "protocol", "cut", "horizon"),
        *("measure", "mean", "low", "high", "std", "n"),
    ]
    assert found["measure"].tolist() == [c for c in short if c.endswith(("_jaccard", "_mse"))]
    for line in found.itertuples():
        expected = metrics.summary(short[line.measure])
        assert line.mean == pytest.approx(expected.mean, abs=1e-15) and line.n == 7
        assert line.std == pytest.approx(expected.std, abs=1e-15)
        assert line.low <= line.mean <= line.high
    found = evaluation.means(long, ["horizon", "model"]).set_index(["horizon", "measure"])
    for horizon in range(1, 5):
        values = long.loc[long["horizon"] == horizon, "prediction_mse"]
        assert found.loc[(horizon, "prediction_mse"), "mean"] == pytest.approx(values.mean())
    assert len(found) == 4 * 10


def test_rows_of_a_sample_are_averaged_before_it_is_drawn(long):
    """Four horizons of a sample are one observation, not four."""
    found = row(evaluation.means(long, "model"))
    values = long.groupby("sample")["prediction_jaccard"].mean()
    assert found.n == 7 and found.mean == pytest.approx(values.mean(), abs=1e-15)
    assert found.std == pytest.approx(values.std(), abs=1e-15)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    values = rng.beta(2, 5, (300, 30))  # 300 experiments of 30 samples; the true mean is 2/7
    runs = {"model": np.repeat([f"run {i}" for i in range(300)], 30)}
    table = rolled(values.reshape(-1, 1) - 0.5).assign(**runs, sample=np.tile(range(30), 300))
    found = evaluation.skill(table, "model").query("measure == 'jaccard'")
    covered = ((found["low"] + 0.5 <= 2 / 7) & (found["high"] + 0.5 >= 2 / 7)).mean()
    # For so few samples the bootstrap is a little narrow: 93 or 94 % are to be expected.
    assert 0.94 - 3.5 * math.sqrt(0.94 * 0.06 / 300) < covered < 0.98


def test_two_models_are_compared_sample_by_sample(sequences, tmp_path, monkeypatch):
    options = {"frame_format": "T20_TINC1", "cut": ("half", "expected")}
    both = [
        (
            evaluation.next_frame(model, sequences, ("pooled", "per_frame"), **options),
            evaluation.long_term(model, sequences, **options),
        )
        for model in (Fading(), Persistence())
    ]
    by_sample(both[1]).to_csv(tmp_path / "samples.csv")
    monkeypatch.setattr(published, "THESIS_SAMPLES", tmp_path / "samples.csv")
    other, keys = published.thesis_samples(), ["protocol", "cut", "horizon", "sample"]
    ours, theirs = (pd.concat(tables).set_index(keys)["prediction_jaccard"] for tables in both)
    gaps = (ours - theirs).groupby(keys[:-1]).mean()
    found = pd.concat([evaluation.paired(table, other) for table in both[0]])
    # The other table has no distances frame by frame.
    assert len(found) == 2 * (1 + 5) and "per_frame" not in set(found["protocol"])
    for row in found.itertuples():
        gap = gaps[row.protocol, row.cut, row.horizon]
        assert row.mean == pytest.approx(gap, abs=1e-5) and row.n == len(sequences)
        assert row.low <= row.mean <= row.high
    with pytest.raises(ValueError, match="have no partner"):
        evaluation.paired(both[0][1], other[other["sample"] != 3])


def test_intervals_are_repeatable_and_do_not_depend_on_the_rest(short, long, sequences):
    one, two = evaluation.means(short), evaluation.means(short)
    pd.testing.assert_frame_equal(one, two)
    mixed = evaluation.means(short.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(one, mixed)
    more = evaluation.next_frame(Persistence(), sequences, frame_format="T20_TINC1")
    both = evaluation.means(evaluation.combine(more, short))
    pd.testing.assert_frame_equal(both[both["model"] == "fading"].reset_index(drop=True), one)


def test_a_single_sample_has_a_mean_and_no_interval():
    for table in (evaluation.means(rolled([[0.2]])), evaluation.skill(rolled([[0.2]]))):
        assert table["n"].eq(1).all()
        assert table[["low", "high", "std"]].isna().all(axis=None)
        assert table["mean"].notna().all()


def test_skill_is_the_paired_difference(rng):
    hard = rng.uniform(0.2, 0.8, 200)  # sequences differ much, the model's gain little
    gain = rng.normal(0.03, 0.01, 200)
    table = rolled(-gain[:, None], persistence=hard)
    found = row(evaluation.skill(table), "jaccard")
    assert found.mean == pytest.approx(-gain.mean(), abs=1e-12)
    assert found.std == pytest.approx(gain.std(ddof=1), abs=1e-12)
    assert found.low < -gain.mean() < found.high < 0
    assert found.high - found.low == pytest.approx(3.92 * gain.std() / math.sqrt(200), rel=0.1)
    apart = evaluation.means(table)
    overlap = row(apart).high > row(apart, "persistence_jaccard").low
    assert overlap  # the two intervals alone would not have shown it
    both = evaluation.beside_persistence(table)
    for measure, same in {
        "prediction": row(apart),
        "persistence": row(apart, "persistence_jaccard"),
        "difference": found,
    }.items():
        assert row(both, measure)[7:] == same[7:]  # mean, low, high, std, n


def test_a_part_of_a_table_is_not_averaged_over_horizons(long):
    with pytest.raises(ValueError, match="4 rows, others 3"):
        evaluation.means(long.drop(index=5), "model")
    assert len(evaluation.means(long.drop(index=5))) == 40  # each horizon for itself is a mean


def spoil(table, column, value, index=3):
    table = table.astype({column: object}) if isinstance(value, str) else table.copy()
    table.loc[index, column] = value
    return table


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda t: t.to_dict(), TypeError, "found dict"),
        (lambda t: t.iloc[:0], ValueError, "no rows"),
        (lambda t: t.drop(columns="input_mse"), ValueError, r"missing or unknown: \['input_mse'\]"),
        (lambda t: t.assign(protocol="rollout"), ValueError, "unknown: .*'moving_null_jaccard'"),
        (lambda t: pd.concat([t, t[["model"]]], axis=1), ValueError, "each once"),
        (lambda t: spoil(t, "prediction_jaccard", np.nan), ValueError, "1 values.*nan in row 3"),
        (lambda t: spoil(t, "persistence_mse", 1.01), ValueError, "first 1.01 in row 3"),
        (lambda t: t.assign(format=None), ValueError, "format has 7 values"),
        (lambda t: spoil(t, "protocol", "pool"), ValueError, "protocol has 1 values.*first pool"),
        (lambda t: spoil(t, "history", 0), ValueError, "history has 1 values.*first 0"),
        (lambda t: spoil(t, "sample", 2), ValueError, "1 rows repeat.*'sample': 2"),
    ],
)
def test_bad_tables(short, tmp_path, make, error, words):
    bad = make(short)
    for call in (evaluation.means, lambda t: evaluation.save(t, tmp_path / "table.csv")):
        with pytest.raises(error, match=words):
            call(bad)
    assert list(tmp_path.iterdir()) == []


def test_combine(short, long, sequences):
    other = evaluation.next_frame(Persistence(), sequences, frame_format="T20_TINC1")
    both = evaluation.combine(short, other)
    assert len(both) == 14 and both.index.tolist() == list(range(14))
    pd.testing.assert_frame_equal(evaluation.combine(short), short)
    with pytest.raises(ValueError, match="7 rows repeat.*different names"):
        evaluation.combine(short, other, short)
    with pytest.raises(ValueError, match="each kind for itself"):
        evaluation.combine(short, long)
    with pytest.raises(ValueError, match="Expected tables"):
        evaluation.combine()


@pytest.mark.parametrize("name", ["NA", 'a, "b"\nGröße'])
def test_files_give_back_the_table_to_the_last_bit(sequences, tmp_path, name):
    for table in (
        evaluation.next_frame(Fading(), sequences, ("pooled", "per_frame"), name=name),
        evaluation.long_term(Fading(), sequences, name=name, cut=metrics.CUTS),
    ):
        path = evaluation.save(table, tmp_path / "table.csv")
        pd.testing.assert_frame_equal(evaluation.load(path), table, check_exact=True)
        again = evaluation.save(evaluation.load(path), tmp_path / "again.csv")
        assert path.read_bytes() == again.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_damaged_files(short, shaped, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv"):
        evaluation.load(tmp_path / "none.csv")
    for table in (short, shaped):
        path = evaluation.save(table, tmp_path / "table.csv")
        content = path.read_bytes()
        header, first, *_ = content.splitlines(keepends=True)
        damaged = [
            content[:-1],
            content[:-30],
            content.rsplit(b",", 1)[0] + b"\n",
            header + first[:-1] + b",1\n",
            header,
            b"",
            content.replace(b",1,0,", b",one,0,", 1),
            content.replace(b",0.", b",9.", 1),
            content.replace(b"prediction_mse", b"prediction_rms"),
            gzip.compress(content),
        ]
        for bad in damaged:
            assert bad != content
            path.write_bytes(bad)
            with pytest.raises(ValueError, match="cut short|not a table of results"):
                evaluation.load(path)


@pytest.mark.parametrize("name", ["summary.csv", "results.json"])
def test_the_course_s_results_are_read_as_they_were_written_or_not_at_all(tmp_path, name):
    shutil.copytree(published.COURSE_RESULTS, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))  # as Git writes it on some machines
    rows = len(pd.read_csv(published.COURSE_RESULTS / "summary.csv"))
    assert len(published.course_results(tmp_path)["summary"]) == rows
    for damaged in (
        b"".join(content.splitlines(keepends=True)[:-1]),
        content.replace(b"1", b"2", 1),
        b"",
        None,
    ):
        path.write_bytes(damaged) if damaged is not None else path.unlink()
        with pytest.raises(ValueError, match="not hold the tables that `make results` wrote"):
            published.course_results(tmp_path)


def test_thesis_figures():
    figures = published.thesis_figures()
    keys = ["model", "format", "protocol", "horizon", "measure"]
    assert len(figures) == 324 and not figures.duplicated(keys).any()
    assert not figures.isna().any(axis=None) and figures["mean"].between(0, 1).all()
    # The README's table: next frames of the three models.
    found = figures[figures["measure"].eq("prediction_jaccard") & figures["protocol"].ne("rollout")]
    found = found.pivot(index="model", columns="format", values="mean").round(4)
    assert found.to_numpy().tolist() == [
        [0.1839, 0.2624, 0.4047],
        [0.1710, 0.2246, 0.3137],
        [0.0743, 0.1152, 0.1880],
    ]


def test_thesis_figures_are_the_published_ones(thesis_folder):
    """Row by row: only the names of protocols and quantities are ours."""
    ours = published.thesis_figures().set_index(
        ["model", "format", "protocol", "horizon", "measure"]
    )
    words = {
        "next_frame": {"prediction": "prediction", "null": "persistence", "input": "input"},
        "rollout": {"prediction": "prediction", "null": "moving_null", "input": "moving_input"},
    }
    with open(thesis_folder / "results" / "thesis_results.csv", newline="") as file:
        theirs = list(csv.DictReader(file))
    assert len(theirs) == len(ours)
    for line in theirs:
        what, kind = line["quantity"].split("_")
        protocol = line["protocol"]
        if protocol == "next_frame":
            protocol = "pooled" if line["model"] == "ConvLSTM3D" else "per_frame"
        measure = f"{words[line['protocol']][what]}_{kind}"
        found = ours.loc[(line["model"], line["format"], protocol, int(line["horizon"]), measure)]
        assert (found["mean"], found["std"]) == (float(line["mean"]), float(line["std"]))
        assert found["n"] == int(line["n"])


@pytest.fixture(scope="module")
def fifty(thesis_folder):
    """The first 50 of the thesis's test samples, uint8 (50, 128, 16, 16, 16)."""
    files = record_paths(thesis_folder / "data" / workshop.SPLITS["test"], 50)
    return np.stack([read_sample(path).frames for path in files])


@pytest.mark.parametrize("chosen", THESIS_FORMATS, ids=lambda found: found.name)
def test_persistence_on_the_thesis_s_records(fifty, chosen):
    """The thesis's null, over 992 samples, must be what these 50 are a draw from.

    That the GANs' rollouts start after 1 and 3 frames was found so: only there their null agrees.
    """
    frames, judged = chosen.select(fifty), []
    models = {"AEncGAN3D single-frame": 1, "AEncGAN3D three-frame": 3, "ConvLSTM3D": 5}
    options = {"frame_format": chosen}
    for name, history in models.items():
        options["name"] = name
        judged += [
            evaluation.next_frame(Persistence(), frames, ("pooled", "per_frame"), **options),
            evaluation.long_term(Persistence(), frames, history=history, **options),
        ]
    keys = ["model", "format", "protocol", "history", "horizon"]
    ours = pd.concat([evaluation.means(table, keys) for table in judged])
    keys.append("measure")
    beside = ours.merge(published.thesis_figures(), on=keys, suffixes=("", "_thesis"))
    beside = beside[beside["measure"].str.startswith(("persistence", "moving_null"))]
    assert len(beside) == 2 * 2 + 3 * 5 * 2
    difference = (beside["mean"] - beside["mean_thesis"]).abs()
    assert (difference < 4 * beside["std"] / math.sqrt(50)).all()


def test_skill_horizon_and_its_interval(rng):
    """Notebook 08's loop gives the same (tests/exercises)."""
    trend = np.array([-0.1, -0.08, -0.03, -0.01, 0.01, -0.05])
    table = rolled(trend + rng.normal(0, 0.05, (40, 6)))
    (found,) = evaluation.skill_horizon(table).itertuples()
    assert (found.model, found.format, found.history) == ("made", "T20_TINC1", 5)
    assert found.longest == 6 and found.n == 40
    assert found.low <= found.shown <= found.steps <= found.high
    skill = evaluation.skill(table, "horizon")
    whole = (skill[skill["measure"] == "jaccard"]["high"] < 0).to_numpy()
    assert found.shown == np.cumprod(whole).sum()


@pytest.mark.parametrize(
    ("means", "steps"),
    [
        ([-0.1, -0.1, -0.1], 3),
        ([0.1, -0.1, -0.1], 0),
        ([-0.1, 0.0, -0.1], 1),  # equal is not better, and what follows a gap does not count
        ([-0.1, -0.1, 0.1], 2),
    ],
)
def test_skill_horizon_without_any_doubt(means, steps):
    (found,) = evaluation.skill_horizon(rolled([means] * 5)).itertuples()
    assert (found.steps, found.low, found.high, found.shown) == (steps,) * 4
    (single,) = evaluation.skill_horizon(rolled([means])).itertuples()
    assert single.steps == steps and single.shown == 0 and math.isnan(single.low)


@pytest.mark.parametrize(
    ("means", "steps"),
    [
        ([0.2, 0.3, 0.4], 3),
        ([0.2, 0.5, 0.4], 1),  # 0.5 is not below, and what follows does not count
        ([0.6, 0.3, 0.4], 0),
    ],
)
def test_trust_horizon_without_any_doubt(means, steps):
    """It asks the forecast alone, however good persistence is."""
    for persistence in (0.35, 0.5):
        differences = np.array([means] * 5) - persistence
        table = rolled(differences, persistence=persistence)
        (found,) = evaluation.trust_horizon(table).itertuples()
        assert (found.steps, found.low, found.high, found.shown, found.longest) == (*[steps] * 4, 3)


def test_horizons_in_time_points():
    formats = {"T20_TINC1": 2, "T80_TINC4": 8, "T128_TINC16_of_130": 32, "any": math.nan}
    table = evaluation.combine(
        *(rolled([[-0.1, -0.1, 0.1]] * 3, frame_format=name) for name in formats)
    )
    for found in (evaluation.skill_horizon(table), evaluation.trust_horizon(table)):
        assert found["steps"].eq(2).all()
        np.testing.assert_array_equal(found["time_points"], list(formats.values()))


def test_the_interval_of_the_skill_horizon_covers_the_truth():
    rng = np.random.default_rng(4)
    trend = np.array([-0.05, -0.03, -0.02, 0.02, 0.05])  # the true skill horizon is 3
    table = rolled(trend + rng.normal(0, 0.05, (200 * 25, 5)))
    table = table.assign(model="run " + (table["sample"] // 25).astype(str))
    found = evaluation.skill_horizon(table)
    assert len(found) == 200 and found["low"].le(3).mul(found["high"].ge(3)).sum() >= 180


def test_skill_horizon_says_what_is_wrong(short, long):
    for bad, words in (
        (short, "of next frames"),
        (long[long["horizon"] != 2], "has gaps: expected the horizons 1 to 4"),
        (long.drop(index=5), "for each of its 7 samples"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation.skill_horizon(bad)


@pytest.mark.parametrize("step", [1, 4])
def test_all_time_points_can_be_forecast(rng, step):
    chosen = FrameFormat(128, step)
    points = (rng.random((2, 128, 3, 3, 3)) < 0.3).astype(np.uint8)
    horizon = chosen.steps - 5
    table = evaluation.long_term(
        Fading(), chosen.select(points), horizon=horizon, frame_format=chosen
    )
    assert len(table) == 2 * horizon and table["format"].eq(f"T128_TINC{step}").all()
    last = table[(table["sample"] == 1) & (table["horizon"] == horizon)]
    expected = metrics.jaccard_distance(points[1, 128 - step], points[1, 4 * step])
    assert last["persistence_jaccard"].item() == expected


@pytest.fixture
def several(rng):
    """Rollouts of two models, of which one lacks a format, and persistence itself."""
    noise = rng.normal(0, 0.02, (12, 6))
    return evaluation.combine(
        rolled(noise - 0.1, model="good"),
        rolled(noise - 0.1, model="good", frame_format="T80_TINC4"),
        rolled(noise + 0.1, model="bad"),
        rolled(0 * noise, model="repeat", frame_format="T80_TINC4"),
    )


def test_overview_has_means_deviations_and_gaps(several):
    found = evaluation.overview(several[several["horizon"].isin([1, 6])])
    assert list(found.columns) == [(f, h) for f in ("T20_TINC1", "T80_TINC4") for h in (1, 6)]
    expected = metrics.summary(
        several.query("model == 'good' and format == 'T20_TINC1' and horizon == 6")[
            "prediction_jaccard"
        ]
    )
    assert found.loc["good", ("T20_TINC1", 6)] == f"{expected.mean:.4f} ± {expected.std:.4f}"
    assert found.loc["bad", ("T80_TINC4", 1)] == "missing"
    assert "repeat" not in found.index  # it is persistence
    assert found.loc["persistence", ("T80_TINC4", 6)] == "0.5000 ± 0.0000"
    assert found.loc["moving null", ("T20_TINC1", 1)] == "0.5000 ± 0.0000"
    assert found.loc["thesis: ConvLSTM3D", ("T80_TINC4", 1)].startswith("0.190")
    assert found.loc["thesis: ConvLSTM3D", ("T80_TINC4", 6)] == "missing"  # it stops at 5
    alone = evaluation.overview(several, digits=2)
    assert list(alone.index)[:4] == ["good", "bad", "persistence", "moving null"]
    assert alone.loc["persistence", ("T20_TINC1", 3)] == "0.50 ± 0.00"


def test_overview_names_histories_where_they_differ(several, rng):
    other = rolled(rng.normal(0, 0.1, (12, 6)), model="single-frame", history=1, persistence=0.4)
    found = evaluation.overview(
        evaluation.combine(several.iloc[:72], other[other.horizon < 7].assign(format="T20_TINC1"))
    )
    assert {"persistence, from 5 frames", "persistence, from 1 frames"} <= set(found.index)
    assert found.loc["persistence, from 1 frames", ("T20_TINC1", 2)] == "0.4000 ± 0.0000"
    assert found.loc["persistence, from 5 frames", ("T20_TINC1", 2)] == "0.5000 ± 0.0000"
    apart = other.assign(format="T40_TINC2")
    found = evaluation.overview(evaluation.combine(several.iloc[:72], apart))
    assert found.loc["persistence", ("T40_TINC2", 2)] == "0.4000 ± 0.0000"


def test_figures_of_two_protocols_never_meet(sequences):
    both = evaluation.next_frame(
        Fading(), sequences, ("pooled", "per_frame"), frame_format="T20_TINC1"
    )
    with pytest.raises(ValueError, match="mixes the protocols pooled, per_frame"):
        evaluation.means(both, ["model", "format"])
    with pytest.raises(ValueError, match="mixes the protocols pooled, per_frame.*protocol="):
        evaluation.overview(both)
    found = evaluation.overview(both, protocol="per_frame")
    assert {"thesis: AEncGAN3D single-frame", "fading"} <= set(found.index)
    assert "thesis: ConvLSTM3D" not in found.index  # the thesis has it pooled
    with pytest.raises(ValueError, match="protocol is 'rollout'; choose one of pooled, per"):
        evaluation.overview(both, protocol="rollout")


def test_other_samples_and_other_frames_are_told(several, rng):
    part = several.drop(several[(several.model == "bad") & (several["sample"] == 3)].index)
    with pytest.raises(ValueError, match="bad lacks 1 of 12 samples in T20_TINC1"):
        evaluation.overview(part)
    elsewhere = several.copy()
    elsewhere.loc[several.model == "bad", "persistence_jaccard"] += 0.01
    with pytest.raises(ValueError, match="persistence differs between models by up to 0.01"):
        evaluation.overview(elsewhere)


def test_breakdown(rng):
    kinds = pd.Categorical(["many", "few", "many", "none"] * 3, ["none", "few", "many"])
    groups = pd.DataFrame({"rings": kinds, "size": ["small", "large"] * 6}, index=range(12))
    table = rolled(rng.normal(0, 0.1, (12, 2)))
    found = evaluation.breakdown(table, groups)
    line = found.query("property == 'rings' and group == 'many' and horizon == 2").iloc[0]
    chosen = table[table["sample"].isin(range(0, 12, 2)) & (table["horizon"] == 2)]
    difference = (chosen["prediction_jaccard"] - chosen["persistence_jaccard"]).mean()
    assert line["difference"] == pytest.approx(difference)
    assert line["low"] < line["difference"] < line["high"] and line["n"] == 6
    order = found.loc[found["horizon"] == 1, "group"].tolist()
    assert order == ["none", "few", "many", "large", "small"]  # as the categories; by name
    counts = found[found["horizon"] == 1].groupby("property")["n"].sum()
    assert counts.eq(12).all()  # each sample is in one group of each property
    for bad in (groups.iloc[:5], groups.assign(size=None)):
        with pytest.raises(ValueError, match="rows of the table have no group in"):
            evaluation.breakdown(table, bad)
    with pytest.raises(pd.errors.InvalidIndexError, match="unique"):
        evaluation.breakdown(table, pd.concat([groups, groups]))


def test_best_and_worst_cases():
    table = rolled([[0.3], [-0.1], [0.2], [-0.3], [0.0]])
    found = evaluation.cases(table, 2)
    assert found["case"].tolist() == ["best 1", "best 2", "worst 2", "worst 1"]
    assert found["sample"].tolist() == [3, 1, 2, 0]
    assert found["difference"].round(6).tolist() == [-0.3, -0.1, 0.2, 0.3]
    hard = table.assign(persistence_jaccard=[0.5, 0.1, 0.5, 0.5, 0.9])
    found = evaluation.cases(hard, 1)
    assert found["sample"].tolist() == [4, 1]  # gained most, spoilt most
    assert evaluation.cases(table[table["sample"] == 2], 3)["case"].tolist() == ["best 1"]
    for options, words in (
        ({"count": 0}, "count is 0"),
        ({"horizon": 2}, "horizon is 2"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation.cases(table, **options)


@pytest.fixture
def shaped(sequences):
    """Rollouts with shapes; the forecast vanishes in time."""
    return evaluation.long_term(Fading(), sequences, history=3, horizon=4, shape=True, batch_size=3)


def test_shapes_agree_with_topology(sequences, shaped):
    plain = evaluation.long_term(Fading(), sequences, history=3, horizon=4)
    pd.testing.assert_frame_equal(shaped[plain.columns], plain)
    frames = {
        "truth": sequences[:, 3:7],
        "prediction": rollout(Fading(), sequences[:, :3], 4),
        "persistence": metrics.persistence(sequences[:, :3], 4),
    }
    for who, array in frames.items():
        numbers = topology.betti_numbers(array).reshape(-1, 3).T
        for what, expected in zip(topology.BETTI, numbers):
            np.testing.assert_array_equal(shaped[f"{who}_{what}"], expected)
        if who != "truth":
            mean, far = topology.surface_distance(frames["truth"], array)
            np.testing.assert_array_equal(shaped[f"{who}_surface_mean"], mean.ravel())
            np.testing.assert_array_equal(shaped[f"{who}_surface_95"], far.ravel())
    assert shaped["prediction_surface_mean"].isna().any()


def test_shape_means_count_what_is_undefined(shaped):
    found = evaluation.shape_means(shaped, ["model", "horizon"])
    assert list(found.columns) == [
        *("model", "horizon", "measure", "mean", "low", "high", "std", "n", "undefined")
    ]
    assert len(found) == 4 * (9 + 6 + 4)
    found = found.set_index(["measure", "horizon"])
    for horizon, rows in shaped.groupby("horizon"):
        error = (rows["prediction_tunnels"] - rows["truth_tunnels"]).abs()
        line = found.loc[("prediction_tunnels_error", horizon)]
        assert line["mean"] == pytest.approx(error.mean()) and line["n"] == 7
        assert line["low"] <= line["mean"] <= line["high"] and line["undefined"] == 0
        surface = rows["prediction_surface_mean"]
        line = found.loc[("prediction_surface_mean", horizon)]
        assert line["n"] == surface.notna().sum() and line["n"] + line["undefined"] == 7
        assert line["mean"] == pytest.approx(surface.mean(), nan_ok=True)
    gone = shaped.copy()
    late = (gone["horizon"] == 4) & (gone["truth_components"] > 0)
    gone = gone[late].assign(prediction_components=0.0, prediction_surface_mean=np.nan)
    gone["prediction_surface_95"] = np.nan
    line = evaluation.shape_means(gone, "horizon").set_index("measure")
    line = line.loc["prediction_surface_95"]
    assert math.isnan(line["mean"]) and (line["n"], line["undefined"]) == (0, len(gone))


def test_tables_with_shapes_are_saved_combined_and_checked(shaped, long, tmp_path):
    path = evaluation.save(shaped, tmp_path / "shapes.csv")
    pd.testing.assert_frame_equal(evaluation.load(path), shaped, check_exact=True)
    assert len(evaluation.means(shaped)) == len(evaluation.means(long))
    with pytest.raises(ValueError, match="combine each kind for itself"):
        evaluation.combine(shaped, long.assign(model="other"))
    for bad, words in (
        (shaped.drop(columns="truth_voids"), r"unknown: \['truth_voids'\]"),
        (
            spoil(shaped, "truth_tunnels", np.nan),
            "truth_tunnels has 1 values that are missing, NaN",
        ),
        (spoil(shaped, "prediction_components", 1.5), "first 1.5 in row 3"),
        (spoil(shaped, "persistence_surface_mean", np.nan), "surface_mean has 1 values"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation.checked(bad)
    with pytest.raises(ValueError, match="no shapes; make it with long_term"):
        evaluation.shape_means(long)
    with pytest.raises(ValueError, match="add 'horizon'"):
        evaluation.shape_means(shaped, "model")
