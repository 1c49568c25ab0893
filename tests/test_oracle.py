"""The oracle: recorded numbers that stay as they are while the code that makes them moves.

It holds the forecasts of all shipped weights, the weights after short trainings, the tables of a
small evaluation, and what the notebooks print. What is recorded changes only on purpose, by

    python -m tests.test_oracle --record forecasts trainings evaluation notebooks

or some of these four, and the commit says why.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import itertools
import json
import platform
import subprocess
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest

from data.make import recipes, results
from helpers import (
    _files,
    evaluation,
    models,
    records,
    rollout,
    sequences,
    training,
    workshop,
)
from helpers.models.weights import read_card, write_card

tf = workshop.tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED = Path(__file__).resolve().parent / "oracle"
SAMPLE, WEIGHTS = REPOSITORY / "data" / "sample", REPOSITORY / "data" / "weights"
SEQUENCES = 8  # of the sample set's test split
SCOUTED = "surfacenet, with a scout"
SEEN, OBSERVED, AHEAD = 12, 5, 3  # frames before the next one; in a rollout: before, and ahead

# What the oracle knows of the course's code: the functions from here to `judged_tables`.


def cases() -> dict[str, results.Case]:
    """Return all shipped weights that forecast, by their name in each format."""
    found = [case for case in results.cases(WEIGHTS) if not case.frames]
    return {f"{case.path.stem}, {case.frame_format.name}": case for case in found}


def turns_along(case: results.Case) -> bool:
    """Tell whether a case's network forecasts a turned history likewise."""
    return case.path.stem == "surfacenet"


def roll_out(model, observed: np.ndarray) -> np.ndarray:
    """Forecast as many frames as `AHEAD`: (B, T, D, H, W) to (B, AHEAD, D, H, W)."""
    return rollout.rollout(model, observed, AHEAD)


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Return time points uint8 (SEQUENCES, 128, D, H, W), and the numbers of the samples."""
    split = records.open_split(SAMPLE, "test")
    return split.frames(np.arange(SEQUENCES)), split.sample_id[:SEQUENCES]


def small_recipes() -> dict[str, recipes.Recipe]:
    """Return a small network of each kind that can be trained, and how."""

    def small(recipe, config: dict, **drawn):
        return recipe.changed(config=config, plan={"batch_size": 4, "warm_up": 5}, drawn=drawn)

    patch = {"width": 16, "blocks": 1}
    near = {"radius": 1, "blocks": 1, "width": 16, "layers": 1}
    gan = patch | {"critic_width": 8, "ramp": 5}
    voxels = {"voxels": 64, "candidates": 256}
    return {
        "convlstm": small(
            recipes.recipe("convlstm", 20), {"filters": (4,), "width": 16, "blocks": 1, "patch": 4}
        ),
        "cnn": small(recipes.recipe("cnn", 20), patch),
        "surfacenet": small(recipes.recipe("surfacenet", 20), near, **voxels, scout=None),
        SCOUTED: small(recipes.recipe("surfacenet", 20), near, **voxels),
        "wgan_gp": small(recipes.recipe("wgan_gp", 20), gan),
    }


def train(recipe: recipes.Recipe, folder: Path) -> tuple[list[np.ndarray], float]:
    """Train a network; return its weights, in their order, and the mean loss of all steps."""
    split, formats = records.open_split(SAMPLE, "validation"), sequences.THESIS_FORMATS
    workshop.hardware(seed=recipe.plan.seed)
    model = recipe.kind.build(recipe.config)
    model.compile(**recipe.compile_options())
    run = training.Checkpoint(folder, recipe.plan, recipe.kind.monitor(recipe.config))
    training.train(model, recipe.batches(split, formats), run)
    arrays = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    return arrays, run.rows[-1]["loss"]


def judged_tables(work: Path) -> dict[str, list[dict]]:
    """Return the tables of persistence, by sample, and those of two networks, averaged."""
    points, sample_id = samples()
    null, shapes, judged, horizons = [], [], [], []
    for found in sequences.THESIS_FORMATS:
        frames = found.select(points)
        options = {"frame_format": found, "sample_id": sample_id}
        model, both = rollout.Persistence(), ("pooled", "per_frame")
        null.append(evaluation.next_frame(model, frames, both, **options))
        null.append(evaluation.long_term(model, frames, shape=True, **options))
        shapes.append(evaluation.shape_means(null[-1]))
    for case in results.cases(WEIGHTS, ["convlstm", "cnn"]):
        if case.frame_format == sequences.T80_TINC4:
            frames = case.frame_format.select(points)
            tables = results.evaluate(case, frames, sample_id, work)
            judged.append(results.summary(case, tables))
            horizons.append(evaluation.skill_horizon(tables[-1]))
    groups = {"persistence": null, "shapes": shapes, "networks": judged, "horizons": horizons}
    return {
        f"{name} {number}": {
            column: json.loads(table[column].to_json(orient="values", double_precision=9))
            for column in table
        }
        for name, tables in groups.items()
        for number, table in enumerate(tables)
    }


# What is recorded.


def forecasts(case, frames, weights=WEIGHTS) -> dict[str, np.ndarray]:
    """Return the next frame (B, D, H, W) and a rollout (B, AHEAD, D, H, W) of sequences."""
    model = models.load(weights / case.path.name, case.frame_format)
    return {"next": model(frames[:, :SEEN]), "rollout": roll_out(model, frames[:, :OBSERVED])}


def chosen_frames(case, points: np.ndarray) -> np.ndarray:
    """Return the frames of the format of a case, float32 (B, T, D, H, W)."""
    return case.frame_format.select(points).astype(np.float32)


def moments(array: np.ndarray) -> list[float]:
    """Return mean and standard deviation."""
    return [float(array.mean(dtype=float)), float(array.std(dtype=float))]


def trained(recipe) -> dict:
    """Return the loss of a short training, and for each array moments and first values."""
    with tempfile.TemporaryDirectory() as folder:
        arrays, loss = train(recipe, Path(folder))
    return {"loss": loss, "arrays": [[*moments(a), *map(float, a.flat[:6])] for a in arrays]}


@functools.cache
def printed() -> dict[str, list[str]]:
    """Return what those cells print that are compared whenever a notebook is run."""
    found, folder = {}, REPOSITORY / "notebooks"
    for path in sorted([*folder.glob("[0-9]*.ipynb"), *folder.glob("solutions/[0-9]*.ipynb")]):
        found[path.relative_to(folder).as_posix()] = [
            "".join(
                output.get("text") or output.get("data", {}).get("text/plain", "")
                for output in cell.outputs
            )
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code" and "nbval-check-output" in cell.metadata.get("tags", [])
        ]
    return found


def machine() -> dict[str, str]:
    """Name the processor and the versions on which arithmetic repeats itself; no host."""
    path = Path("/proc/cpuinfo")
    processor = platform.processor() or platform.machine()
    if path.exists():
        lines = (line.partition(":") for line in path.read_text("utf-8").splitlines())
        known = {name.strip(): value.strip() for name, _, value in lines}
        # Virtual machines give several generations the same name.
        names = ("model name", "cpu family", "model", "stepping")
        processor = ", ".join(f"{name} {known[name]}" for name in names if name in known)
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
    return {"processor": processor, **versions}


@functools.cache
def read(part: str) -> dict:
    """Return what is recorded of `forecasts`, `trainings`, `evaluation` or `notebooks`."""
    if part != "forecasts":
        return json.loads((RECORDED / f"{part}.json").read_text("utf-8"))
    with np.load(RECORDED / "forecasts.npz") as archive:
        arrays = dict(archive)
    return {"about": json.loads(str(arrays.pop("about"))), "values": arrays}


def tolerance(recorded: dict, anywhere: float = 1e-4) -> float:
    """Return how far figures may be off: less on a machine like the recorded one."""
    return 1e-6 if recorded["about"]["machine"] == machine() else anywhere


def differences(found, recorded, allowed: float, place: str = "") -> list[str]:
    """Say where two nested structures of numbers and words differ."""
    if isinstance(recorded, (dict, list)):
        pairs = recorded.items() if isinstance(recorded, dict) else enumerate(recorded)
        if type(found) is not type(recorded) or len(found) != len(recorded):
            return [f"{place}: {found} in place of {recorded}"]
        if isinstance(recorded, dict) and list(found) != list(recorded):
            return [f"{place}: {list(found)} in place of {list(recorded)}"]
        return [
            each
            for key, value in pairs
            for each in differences(
                found[key],
                value,
                # Persistence is counted, not computed: equal on every machine.
                min(allowed, 1e-6) if str(key).startswith(("persistence", "shapes")) else allowed,
                f"{place} / {key}",
            )
        ]
    if isinstance(recorded, float) and isinstance(found, (int, float)):
        same = abs(found - recorded) <= allowed
    else:
        same = found == recorded
    return [] if same else [f"{place}: {found} in place of {recorded}"]


@pytest.fixture(scope="module", autouse=True)
def quiet_machine(tmp_path_factory):
    """Keep the user's cache as it is, and a GPU's matrices in float32."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.fixture(scope="module")
def points(quiet_machine):
    return samples()[0]


def test_tables_of_a_small_evaluation(tmp_path):
    recorded = read("evaluation")
    found = judged_tables(tmp_path)
    assert not differences(found, recorded["values"], tolerance(recorded))


def test_every_case_is_recorded():
    assert {name.rpartition(" / ")[0] for name in read("forecasts")["values"]} == {
        f"{name} / {part}" for name in cases() for part in ("next", "rollout")
    }


@pytest.mark.parametrize("name", cases())
def test_forecasts_of_shipped_weights(name, points):
    recorded, case = read("forecasts"), cases()[name]
    allowed, found = tolerance(recorded), forecasts(case, chosen_frames(case, points))
    for part, array in found.items():
        values = {
            key: recorded["values"][f"{name} / {part} / {key}"]
            for key in ("voxels", "values", "moments")
        }
        chosen = array.ravel()[values["voxels"]]
        far = ~(np.abs(chosen - values["values"]) <= allowed)
        # A pose that is not unique is settled by rounding, on another processor in another way.
        ties = recorded["about"]["machine"] != machine() and turns_along(case)
        assert far.mean() <= (0.01 if ties else 0)
        np.testing.assert_allclose(chosen[far], values["values"][far], rtol=0, atol=0.01)
        np.testing.assert_allclose(moments(array), values["moments"], rtol=0, atol=allowed)


@pytest.mark.parametrize("name", small_recipes())
def test_weights_after_a_short_training(name):
    recorded = read("trainings")
    if name == SCOUTED and recorded["about"]["machine"] != machine():
        pytest.skip("which voxels a scout draws depends on the last digit of its forecasts")
    found, before = trained(small_recipes()[name]), recorded["values"][name]
    assert found["loss"] == pytest.approx(before["loss"], abs=tolerance(recorded, 1e-3))
    if recorded["about"]["machine"] == machine():
        assert not differences(found, before, 1e-6)


@pytest.mark.parametrize("name", printed())
def test_what_notebooks_teach(name):
    assert printed()[name] == read("notebooks")["values"].get(name)


def test_no_notebook_is_missing():
    assert list(printed()) == list(read("notebooks")["values"])


# How it is recorded.

VOXELS = 300  # of each forecast, most of them near a surface
SHAKEN = 1e-5  # how far weights are moved, relative to their size, to find voxels at a cut
SYMMETRIES = [
    (order, [axis for axis in range(3) if mirrored[axis]])
    for order in itertools.permutations(range(3))
    for mirrored in itertools.product((False, True), repeat=3)
]
STEADY = 5e-5  # how little a chosen voxel may move then


def steady_voxels(name, case, frames, plain, folders) -> dict[str, np.ndarray]:
    """Tell which voxels another machine's rounding cannot turn over: bool, as `forecasts`.

    A network may cut what it reads at a threshold, or turn a surrounding by comparing sums. There,
    the last digit decides. Such voxels show when all weights are moved a little, and those that
    are turned by the toss of a coin, when the history is turned.
    """
    others = [(plain, forecasts(case, frames, folder)) for folder in folders]
    if turns_along(case):
        for order, axes in SYMMETRIES[3::4]:
            turned = forecasts(case, turn(frames, order, axes))
            back = {part: turn_back(array, order, axes) for part, array in turned.items()}
            others.append((plain, back))
    steady = {part: np.ones(array.shape, bool) for part, array in plain.items()}
    for part, found in steady.items():
        for one, other in others:
            found &= np.abs(one[part] - other[part]) < STEADY
        off = max(np.abs(np.subtract(*map(moments, (a[part], b[part])))).max() for a, b in others)
        print(f"{name}, {part}: {found.mean():.2%} steady, moments {off:.1e} off", flush=True)
    return steady


def turn(array: np.ndarray, order, axes) -> np.ndarray:
    """Put the last three axes in another order, then mirror some of them."""
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + axis for axis in order))
    return np.ascontiguousarray(np.flip(turned, [lead + axis for axis in axes]))


def turn_back(array: np.ndarray, order, axes) -> np.ndarray:
    """Undo `turn`."""
    lead = array.ndim - 3
    straight = np.flip(array, [lead + axis for axis in axes])
    return straight.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(order)))


def shaken_weights(folder: Path, seed: int) -> Path:
    """Write all weights with a little noise, to find what hangs by a thread."""
    rng = np.random.default_rng(seed)
    for path in sorted(WEIGHTS.glob("*.npz")):
        with np.load(path) as archive:
            arrays = {
                name: array * (1 + SHAKEN * rng.standard_normal(array.shape)).astype(array.dtype)
                for name, array in archive.items()
            }
        shaken = folder / path.name
        np.savez(shaken, **arrays)
        write_card(shaken, read_card(path) | {"sha256": _files.digest(shaken)})
    return folder


def recorded_forecasts() -> dict[str, np.ndarray]:
    """Return for each case and part the chosen voxels, their values, and the moments of all."""
    points, rng = samples()[0], np.random.default_rng(1)
    found = {}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folders = [shaken_weights(Path(folder), seed) for seed, folder in enumerate((one, other))]
        for name, case in cases().items():
            frames = chosen_frames(case, points)
            plain = forecasts(case, frames)
            steady = steady_voxels(name, case, frames, plain, folders)
            for part, array in plain.items():
                doubtful = np.minimum(array, 1 - array) > 0.02
                chance = np.where(doubtful, 1.0, 0.01) * steady[part]
                chance = chance.ravel() / chance.sum()
                voxels = np.sort(rng.choice(array.size, VOXELS, replace=False, p=chance))
                found[f"{name} / {part} / voxels"] = voxels.astype(np.uint32)
                found[f"{name} / {part} / values"] = array.ravel()[voxels].astype(np.float32)
                found[f"{name} / {part} / moments"] = np.float32(moments(array))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("forecasts", "trainings", "evaluation", "notebooks")
    parser.add_argument("--record", nargs="+", required=True, choices=parts)
    # The last one that changed what is recorded.
    git = ["git", "log", "-1", "--format=%h", "--", "helpers", "data", "notebooks"]
    commit = subprocess.run(git, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    about = {"commit": commit, "machine": machine()}
    RECORDED.mkdir(exist_ok=True)
    for part in parser.parse_args().record:
        if part == "forecasts":
            values = recorded_forecasts()
            np.savez_compressed(RECORDED / "forecasts.npz", about=json.dumps(about), **values)
            continue
        with tempfile.TemporaryDirectory() as work:
            make = {
                "trainings": lambda: {n: trained(each) for n, each in small_recipes().items()},
                "evaluation": lambda work=work: judged_tables(Path(work)),
                "notebooks": printed,
            }
            content = {"about": about, "values": make[part]()}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (RECORDED / f"{part}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
