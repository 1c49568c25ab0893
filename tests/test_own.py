"""People's own data: arrays and files become records, and go all the way through the course."""

import json
import os
import re
import sys
import warnings

import numpy as np
import pytest
import pyvista

from helpers import __main__ as commands
from helpers import convlstm, evaluation, metrics, pictures, published, records, rollout
from helpers.models import cnn, register, surfacenet
from helpers.sequences import FORMATS, FrameFormat, Shifted, from_packed
from helpers.sources import own, readers
from helpers.training import Plan
from helpers.workshop import SPLITS


def balls(count=4, times=8, edge=8, seed=0):
    """Balls that fly about: bool (N, T, D, H, W)."""
    rng = np.random.default_rng(seed)
    where = np.indices((edge,) * 3)
    found = np.zeros((count, times, edge, edge, edge), bool)
    for sequence in found:
        start, pace = rng.uniform(edge / 3, edge / 1.5, 3), rng.normal(0, edge / 40, 3)
        for time, frame in enumerate(sequence):
            centre = (start + pace * time)[:, None, None, None]
            frame[:] = ((where - centre) ** 2).sum(0) < (edge / 4) ** 2
    return found


def opened(folder, tmp_path):
    """Return the packed splits of a folder."""
    return {
        split: records.packed(folder / name, tmp_path / "cache") for split, name in SPLITS.items()
    }


def test_sequences_become_records_without_labels(tmp_path):
    frames = balls(12)
    report = own.from_arrays(frames, tmp_path / "set")
    assert report.records == {"training": 10, "validation": 1, "test": 1}
    assert report.shape == (8, 8, 8, 8) and report.sequences == 12
    assert report.filled == report.before == pytest.approx(frames.mean())
    for step, distance in report.persistence.items():
        each = [metrics.pooled(one[:-step], one[step:]) for one in frames]
        assert distance == pytest.approx(np.mean(each))
    kept = json.loads((tmp_path / "set" / own.MARK).read_text())
    assert kept["names"] == {str(n): name for n, name in report.names.items()}
    splits = opened(tmp_path / "set", tmp_path)
    assert all(split.betti is None and split.objects is None for split in splits.values())
    seen = set()
    for split in splits.values():
        for number, sequence in zip(split.sample_id, split.frames()):
            name = int(report.names[number].partition(",")[0])
            np.testing.assert_array_equal(sequence, frames[name])
            seen.add(name)
    assert seen == set(range(12))
    sample = records.read_folder(tmp_path / "set" / SPLITS["test"])[0]
    assert sample.betti.tolist() == sample.objects.tolist() == [255] * 4
    assert sample.file_name.endswith("_255_8.tfrecords")
    assert "12 sequences" in str(report) and "time_points=8)" in str(report)


def test_one_labelled_record_more_does_not_make_labels_of_the_others(tmp_path, sample_set):
    labelled = records.read_folder(sample_set / SPLITS["test"], limit=1)[0]
    frames = balls(3, 128, 16)
    own.from_arrays(frames, tmp_path / "set")
    records.write_sample(tmp_path / "set" / SPLITS["test"], labelled)
    split = opened(tmp_path / "set", tmp_path)["test"]
    assert len(split) == 2 and split.betti is None and split.objects is None


@pytest.mark.parametrize("count, times, length", [(1, 30, None), (2, 45, 7), (1, 200, None)])
def test_a_split_in_time_has_no_frame_twice(tmp_path, count, times, length):
    # Each frame differs from all others: its number in bits.
    frames = np.zeros((count, times, 8, 8, 8), bool)
    for n in range(count * times):
        frames.reshape(-1, 512)[n, :10] = [1, *(n >> bit & 1 for bit in range(9))]
    report = own.from_arrays(frames, tmp_path / "set", by="time", length=length, time_axis=0)
    found = {}
    for split, packed in opened(tmp_path / "set", tmp_path).items():
        bits = packed.frames().reshape(-1, 512)[:, 1:10].astype(int)
        found[split] = (bits << np.arange(9)).sum(1)
        assert packed.shape[0] == report.shape[0] == (length or max(6, times // 10))
    together = np.concatenate([*found.values()])
    assert len(set(together)) == len(together)
    left = count * times - len(together)
    assert any("left out" in said for said in report.words) == (left > 0)
    for sequence in range(count):  # training comes before validation, validation before test
        ends = [each[each // times == sequence] for each in found.values()]
        assert ends[0].max() < ends[1].min() and ends[1].max() < ends[2].min()


def test_pieces_of_one_sequence_stay_together(tmp_path):
    report = own.from_arrays(balls(5, 15), tmp_path / "set", length=6)
    assert report.records == {"training": 6, "validation": 2, "test": 2}
    assert "15 time points in all left out, after the last whole pieces" in report.words
    splits = opened(tmp_path / "set", tmp_path)
    names = [
        {report.names[n].partition(",")[0] for n in split.sample_id} for split in splits.values()
    ]
    assert sum(map(len, names)) == len(set.union(*names)) == 5


# Steps


def test_threshold(rng):
    values = rng.normal(size=(3, 4, 4, 4))
    values[0, 0] = 0.25
    found, said = own.threshold(values, 0.25)
    np.testing.assert_array_equal(found, values > 0.25)
    assert said == "threshold 0.25: filled is what lies above 0.25" and found.dtype == np.uint8
    np.testing.assert_array_equal(own.threshold(values, 0.25, below=True)[0], values <= 0.25)
    for low, high in ((0, 255), (-1, 1), (False, True), (2.0, 3.0)):
        mask = np.where(values > 0, high, low)
        found, said = own.threshold(mask)
        np.testing.assert_array_equal(found, values > 0)
        assert "two values" in said


def test_otsu_divides_grey_values(rng):
    filled = rng.random((6, 8, 8, 8)) < 0.3
    grey = np.where(filled, rng.normal(200, 5, filled.shape), rng.normal(50, 5, filled.shape))
    found, said = own.threshold(grey, "otsu")
    np.testing.assert_array_equal(found, filled)
    assert "by Otsu" in said
    with pytest.raises(ValueError, match="expected two: say from where on"):
        own.threshold(grey)


def test_cubes_and_grids(rng):
    frames = (rng.random((6, 10, 13, 20)) < 0.3).astype(np.uint8)
    padded, said = own.fit(frames, 20)
    np.testing.assert_array_equal(padded[:, 5:15, 3:16], frames)
    assert padded.sum() == frames.sum() and "lost" not in said
    cropped, said = own.fit(frames, 10, crop=True)
    np.testing.assert_array_equal(cropped, frames[:, :, 1:11, 5:15])
    lost = 1 - cropped.sum() / frames.sum()
    assert said.startswith("10 × 13 × 20 voxels cropped or padded to 10³: ")
    assert said.endswith(f": {lost:.2%} of the filled voxels are lost")
    blocks = padded.reshape(6, 5, 4, 5, 4, 5, 4)
    pooled, _ = own.fit(frames, 5)
    np.testing.assert_array_equal(pooled, blocks.max(axis=(2, 4, 6)))
    halved, _ = own.fit(frames, 10, how="mean")
    mean = padded.reshape(6, 10, 2, 10, 2, 10, 2).mean(axis=(2, 4, 6))
    np.testing.assert_array_equal(halved, mean >= 0.5)
    assert own.resample(frames, 4)[0].shape[0] == 2


@pytest.mark.parametrize(
    "shape, edge, crop, expected",
    [
        ((20, 20, 20), None, False, 24),
        ((32, 32, 32), None, False, 32),
        ((50, 60, 33), None, False, 16),
        ((50, 60, 33), 32, False, 32),
        ((50, 60, 33), None, True, 16),
        ((3, 9, 9), 16, True, 16),
    ],
)
def test_everything_fits(rng, shape, edge, crop, expected):
    frames = (rng.random((2, *shape)) < 0.2).astype(np.uint8)
    found, _ = own.fit(frames, edge, crop=crop)
    assert found.shape == (2, *[expected] * 3) and found.dtype == np.uint8
    whole = np.zeros((2, 1, 1, 1), np.uint8)
    whole[0] = 1
    corners = np.pad(whole, [(0, 0), *[(0, size - 1) for size in shape]])
    assert own.fit(corners, edge)[0].sum() == 1  # without a crop, nothing is lost


# Files, each written by another library than the one that reads it, or than ours


def write_npy(folder, frames):
    for n, sequence in enumerate(frames):
        np.save(folder / f"run_{n}.npy", sequence)


def write_five_axes(folder, frames):
    np.save(folder / "run.npy", frames)


def write_npz(folder, frames):
    np.savez_compressed(folder / "run.npz", **{str(n): each for n, each in enumerate(frames)})


def write_tiff(folder, frames):
    from PIL import Image  # tifffile reads it

    for n, sequence in enumerate(frames):
        (folder / f"run_{n}").mkdir()
        for time, frame in enumerate(sequence):
            first, *others = (Image.fromarray(each.astype(np.uint8) * 255) for each in frame)
            place = folder / f"run_{n}" / f"frame_{time}.tif"
            first.save(place, save_all=True, append_images=others)


def write_nifti(folder, frames):
    import nibabel

    for n, sequence in enumerate(frames):
        image = nibabel.Nifti1Image(sequence.T.astype(np.uint8), np.eye(4))
        image.header.set_zooms((2.0, 2.0, 2.0, 500.0))
        image.header.set_xyzt_units("mm", "msec")
        nibabel.save(image, folder / f"run_{n}.nii{'.gz' * (n % 2)}")


def write_vtk(folder, frames):
    for n, sequence in enumerate(frames):
        (folder / f"run_{n}").mkdir()
        for time, frame in enumerate(sequence):
            cells = n % 2
            image = pyvista.ImageData(dimensions=np.array(frame.shape[::-1]) + cells)
            data = image.cell_data if cells else image.point_data
            data["phase"] = frame.astype(np.float32).ravel()
            ending = ".vtk" if cells else ".vti"
            image.save(folder / f"run_{n}" / f"frame_{time}{ending}")


WRITERS = [write_npy, write_five_axes, write_npz, write_tiff, write_nifti, write_vtk]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_what_another_library_wrote_is_read(tmp_path, capsys, write):
    """Eleven time points, so that frame_10 must not come before frame_2; no two edges alike."""
    (tmp_path / "in").mkdir()
    frames = balls(3, 11)[..., :6, :7, :]
    write(tmp_path / "in", frames)
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / "._run.npy").touch()
    assert commands.main(["own", str(tmp_path / "in"), "--out", str(tmp_path / "set")]) == 0
    told = capsys.readouterr().out
    assert "3 sequences" in told and "Records: 1 training, 1 validation, 1 test" in told
    assert ("time step 0.5 s" in told) == (write is write_nifti)
    names = json.loads((tmp_path / "set" / own.MARK).read_text())["names"]
    for split in opened(tmp_path / "set", tmp_path).values():
        name = names[str(split.sample_id[0])].partition(",")[0]
        np.testing.assert_array_equal(
            split.frames()[0], own.fit(frames[int(name[-1])].astype(np.uint8), 8)[0]
        )


def test_voxels_that_are_not_cubes_are_made_so(tmp_path):
    import nibabel

    frames = balls(1)[0][:, ::2]  # each second slice: (8, 4, 8, 8)
    image = nibabel.Nifti1Image(frames.T.astype(np.uint8), np.eye(4))
    image.header.set_zooms((1.0, 1.0, 2.0, 0.0))
    nibabel.save(image, tmp_path / "run.nii")
    found = readers.nifti(tmp_path / "run.nii")
    np.testing.assert_array_equal(found.array, np.repeat(frames, 2, axis=1))
    assert found.time_step is None and "gives no time step" in found.words[0]
    assert "voxels of 2 × 1 × 1, taken as cubes of 1" in found.words[1]
    image = pyvista.ImageData(dimensions=(8, 8, 4), spacing=(1, 1, 2))
    for time, frame in enumerate(frames):
        image["phase"], image["other"] = frame.ravel().astype(float), np.zeros(frame.size)
        image.save(tmp_path / f"{time}.vti")
    for array, message in ((None, "holds the arrays"), ("speed", "phase, other.* speed")):
        with pytest.raises(ValueError, match=message):
            readers.find(tmp_path, array)[tmp_path.name]()
    found = readers.find(tmp_path, "phase")[tmp_path.name]()
    np.testing.assert_array_equal(found.array, np.repeat(frames, 2, axis=1))


def test_a_missing_library_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "run.nii").touch()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert commands.main(["own", str(tmp_path), "--out", str(tmp_path / "set")]) == 1
    told = capsys.readouterr().err
    assert "run.nii needs nibabel" in told and '-e ".[own]"' in told
    monkeypatch.setitem(sys.modules, "skimage.filters", None)
    with pytest.raises(ModuleNotFoundError, match="group own"):
        own.threshold(balls(1)[0] * 0.5, "otsu")


# Bad input


def several(**changes):
    return {name: balls(1)[0] for name in "abc"} | changes


def grey():
    return np.where(balls(1)[0], 200.0, 20.0) + np.linspace(0, 9, 8)


BAD = {
    "NaN": (several(b=np.where(balls(1)[0], np.nan, 0)), {}, "sequence b: .* NaN or infinite"),
    "masked": (several(b=np.ma.masked_equal(balls(1)[0], 1)), {}, "sequence b: .* masked in"),
    "complex": (several(b=balls(1)[0] * 1j), {}, "sequence b: .* dtype complex128"),
    "three axes": (balls(1)[0, 0], {}, r"has shape \(8, 8, 8\); expected \(T, D, H, W\)"),
    "one frame": (balls(3)[:, :1], {}, "1 time points; expected at least 6"),
    "all empty": (several(b=np.zeros((8, 8, 8, 8))), {}, "all of its voxels are empty"),
    "empty afterwards": (several(), {"steps": [lambda a: (a * 0, "gone")]}, "alike .*; gone"),
    "grey": (several(b=grey()), {}, "values from 20 to 206.*; expected two"),
    "time last": (balls(3, 10).transpose(0, 2, 3, 4, 1), {}, "time_axis=3"),
    "two sequences": (balls(2), {}, 'by="time"'),
    "none": ({}, {}, "no sequences"),
    "too short": (balls(1), {"by": "time", "length": 6}, "'0': 8.* expected at least 18"),
    "different lengths": (several(b=balls(1, 9)[0]), {}, "different numbers .* length=8"),
    "no cube": (balls(3, 9)[..., :7], {}, "take fit"),
    "time steps": (
        {n: readers.Frames(balls(1)[0], time_step=n) for n in (1, 2, 3)},
        {},
        "time steps differ",
    ),
}


@pytest.mark.parametrize("frames, options, message", BAD.values(), ids=BAD)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, frames, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        own.from_arrays(frames, tmp_path / "deep" / "set", **options)
    assert os.listdir(tmp_path) == []


def save_nifti(path, shape):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)


def save_tiffs(folder, *shapes):
    import tifffile

    for n, shape in enumerate(shapes, 1):
        tifffile.imwrite(folder / f"a_{n}.tif", np.zeros(shape, np.uint8))


BAD_FILES = {
    "nothing": (lambda f: (f / "a.txt").touch(), "found none of them"),
    "damaged NIfTI": (lambda f: (f / "a.nii.gz").write_bytes(b"no"), "a.nii.gz.*cannot be read"),
    "damaged .npy": (lambda f: (f / "a.npy").write_bytes(b"no"), "a.npy: it cannot be read"),
    "damaged TIFF": (lambda f: (f / "a.tif").write_bytes(b"II*"), "a.tif.*cannot be read"),
    "a mesh": (lambda f: pyvista.Sphere().save(f / "a.vtk"), "a.vtk: .* PolyData"),
    "a 4D TIFF": (lambda f: save_tiffs(f, (9, 8, 8, 8)), r"a_1.tif: .*Save .* as .npy"),
    "frames of different shapes": (
        lambda f: save_tiffs(f, (8,) * 3, (8, 8, 7)),
        r"a_2.tif: .*\(8, 8, 7\)",
    ),
    "the same name": (
        lambda f: [np.save(f / "a.npy", 0), save_nifti(f / "a.nii", (8, 8, 8, 8))],
        "two sequences are called a, the second in a.npy",
    ),
}


@pytest.mark.parametrize("write, message", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_named(tmp_path, capsys, write, message):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    assert commands.main(["own", str(tmp_path / "in"), "--out", str(tmp_path / "set")]) == 1
    told = capsys.readouterr().err
    assert re.search(f"^error: .*{message}", told, re.MULTILINE)
    assert os.listdir(tmp_path) == ["in"]


def test_what_exists_is_left_alone(tmp_path, full_disk):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="choose another name"):
        own.from_arrays(balls(3), tmp_path / "set")
    assert os.listdir(tmp_path / "set") == ["mine.txt"]
    full_disk(3)
    with pytest.raises(OSError, match="other: the disk is full"):
        own.from_arrays(balls(3), tmp_path / "other")
    assert os.listdir(tmp_path) == ["set"]


def test_time_may_be_elsewhere_if_one_says_so(tmp_path):
    frames = balls(3, 10)
    report = own.from_arrays(frames.transpose(0, 2, 3, 4, 1), tmp_path / "set", time_axis=-1)
    assert report.shape == (10, 8, 8, 8) and report.filled == pytest.approx(frames.mean())
    # Three equal axes first, and still right.
    frames = np.pad(balls(3, 8), [(0, 0)] * 4 + [(0, 1)])
    own.from_arrays(
        frames, tmp_path / "more", time_axis=0, steps=[lambda frames: own.fit(frames, 8, crop=True)]
    )


# Through the course


def test_foreign_formats_have_names_of_their_own(tmp_path):
    mine = FrameFormat(20, 1, own=True)
    assert mine.name == "T20_TINC1_of_128" and FrameFormat.parse(mine.name) == mine
    assert FrameFormat(20, 1, time_points=31).times.tolist() == list(range(5, 25))
    own.from_arrays(balls(3, 128), tmp_path / "set")
    split = opened(tmp_path / "set", tmp_path)["training"]
    with pytest.raises(ValueError, match="own=True"):
        from_packed(split, FORMATS["T20_TINC1"], Shifted())
    from_packed(split, mine, Shifted())
    with pytest.warns(UserWarning, match="convlstm_T20_TINC1.npz learned from T20_TINC1, not from"):
        register.load("convlstm_T20_TINC1", mine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register.load("convlstm_T20_TINC1", FORMATS["T20_TINC1"])


SIZES = [(8, 6), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((24, 7), (32, 12)))]


def small(kind, grid):
    """Return a configuration that trains in seconds."""
    if kind is convlstm:
        return convlstm.Config(filters=(4,), kernels=(3,), patch=2, residual=4.0, grid=grid)
    if kind is cnn:
        return cnn.Config(history=4, ahead=2, steps=(1,), width=8, blocks=1, grid=grid)
    return surfacenet.Config(history=4, ahead=2, steps=(1,), radius=1, width=8, grid=grid)


@pytest.mark.parametrize("kind", [cnn, convlstm, surfacenet], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("grid, times", SIZES)
def test_any_grid_and_number_of_time_points(tmp_path, kind, grid, times):
    frames = balls(4, times, grid)
    own.from_arrays(frames, tmp_path / "set")
    splits = opened(tmp_path / "set", tmp_path)
    mine = FrameFormat(times // 2 * 2, 1, time_points=times)
    config, plan = small(kind, grid), Plan(steps=2, batch_size=2)
    drawn = {"voxels": 32} if kind is surfacenet else {}
    model = kind.build(config)
    model.compile(**kind.compile_options(config, plan), run_eagerly=True)
    batches = kind.batches(splits["training"], [mine], config, plan, **drawn)(0)
    checked = kind.validation(splits["validation"], [mine], config, 2, **drawn)
    log = model.fit(batches, steps_per_epoch=2, validation_data=checked, verbose=0).history
    assert np.isfinite(log["loss"]).all() and np.isfinite(log[kind.monitor(config)]).all()
    test = mine.select(splits["test"].frames())
    forecaster = kind.forecaster(model, mine)
    table = evaluation.combine(
        *(
            evaluation.long_term(each, test, horizon=mine.steps - 5, frame_format=mine, shape=True)
            for each in (forecaster, rollout.Persistence())
        )
    )
    assert set(table["format"]) == {mine.name} and mine.name not in FORMATS
    assert set(evaluation.lines(table)["kind"]) <= {"model", "persistence", "moving null"}
    figure = pictures.long_term_curves(table)
    known = published.thesis_figures()["model"]
    assert not any(name in figure.alt for name in known if name != "ConvLSTM3D")
    assert "thesis" not in figure.alt
    forecast = rollout.rollout(forecaster, test[:, :5], 1)
    assert pictures.compare_slices(test[0, 5:6], forecast[0]).alt
    judged = evaluation.next_frame(forecaster, test, frame_format=mine)
    assert judged["prediction_jaccard"].between(0, 1).all()


def test_short_sequences_are_not_continued_by_their_last_frame(tmp_path):
    """Frames that are never alike: a target that repeats the frame before it is not of the data."""
    rng = np.random.default_rng(0)
    own.from_arrays(rng.random((12, 8, 8, 8, 8)) < 0.5, tmp_path / "set", time_axis=0)
    split = opened(tmp_path / "set", tmp_path)["training"]
    config, mine = cnn.Config(history=6, ahead=3, steps=(1,), grid=8), FrameFormat(8, 1, 8)
    _, targets, _ = next(cnn.batches(split, [mine], config, Plan(steps=1, batch_size=64))(0))
    _, checked, _ = cnn.validation(split, [mine], config, 64)[0]
    for found in (targets, checked):
        frames = np.concatenate([found["next"], found["later"]], axis=1)
        assert (frames[:, 1:] != frames[:, :-1]).any(axis=(2, 3, 4)).all()
    with pytest.raises(ValueError, match="Of 8 time points.* 8 frames cannot be forecast"):
        cnn.validation(split, [mine], cnn.Config(history=6, ahead=8, steps=(1,), grid=8))
