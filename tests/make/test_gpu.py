"""The command for a machine with a GPU, tried on the processor: on TensorFlow, and on JAX."""

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import workshop
from helpers.world import cavities

workshop.tensorflow()  # Keras has its backend before the command would choose JAX
from data.make import gpu  # noqa: E402
from helpers.models import cnn  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
JAX = ROOT / ".venv" / "jax"  # where `make test-all` installs it
LOSSES = """if True:
    import json, pathlib, sys
    sys.modules[{missing!r}] = None
    import keras, numpy as np
    from data.make import gpu
    from helpers import training
    from helpers.models import cnn, weights
    folder = pathlib.Path({folder!r})
    config = cnn.Config(history=6, ahead=2, width=16, blocks=2)
    plan = training.Plan(20, 4, 4e-3, warm_up=5)
    model, start, losses = gpu.network(config, plan), folder / "start.npz", []
    if start.exists():
        weights.load_weights(start, model)
    weights.save_weights(start, model, {{}})
    data = gpu.Shards(np.load(folder / "data.npz")["frames"], "")
    batches = cnn.batches(data, gpu.THESIS_FORMATS, config, plan)
    for step in range(20):
        losses.append(float(model.train_on_batch(*next(batches(step % 5)))[0]))
        model.reset_metrics()
    print(json.dumps([keras.backend.backend(), losses]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight samples as the command reads them."""
    path = tmp_path_factory.mktemp("gpu") / "data.npz"
    frames = np.stack([sample.frames for sample in cavities.generate(8, seed=3)])
    np.savez_compressed(path, frames=np.packbits(frames.reshape(8, 128, -1), axis=-1))
    return path


def process(backend: str, *arguments, **options) -> subprocess.Popen:
    path = os.pathsep.join([str(JAX), str(ROOT)] if backend == "jax" else [str(ROOT)])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **options)


def test_twenty_steps_are_the_same_on_tensorflow_and_on_jax(data):
    if not JAX.is_dir() and importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not here: make test-all installs it in .venv/jax")
    losses = {}
    for backend, missing in (("tensorflow", "jax"), ("jax", "tensorflow")):
        code = LOSSES.format(missing=missing, folder=str(data.parent))
        told, _ = process(backend, "-c", code, stdout=subprocess.PIPE).communicate()
        found, losses[backend] = json.loads(told.splitlines()[-1])
        assert found == backend
    np.testing.assert_allclose(losses["jax"], losses["tensorflow"], rtol=1e-4)
    assert np.less(losses["jax"][15:], losses["jax"][:5]).all()  # the same batches, as it learns


def test_a_run_that_is_stopped_leaves_weights_and_measurements(data, tmp_path):
    arguments = ("-m", "data.make.gpu", "--minutes", 15, "--out", tmp_path, "--data", data)
    with process("tensorflow", *arguments, "--tiny") as run:
        while run.poll() is None and not (tmp_path / "checkpoint.npz").exists():
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
    assert run.returncode == 0
    rows = json.loads((tmp_path / "measurements.json").read_text())["rows"]
    whats = [gpu.BATCH, gpu.CNN, gpu.CNN, gpu.THESIS, gpu.THESIS]
    assert [row["what"] for row in rows] == [*whats, "CNN, to be trained"]
    model = cnn.load(tmp_path / "cnn.npz")
    card = json.loads((tmp_path / "cnn.json").read_text())
    assert model.config == gpu.TINY["config"]
    assert 0 < card["best"]["step"] <= card["steps"] < card["plan"]["steps"]


def test_the_largest_network_is_trained_that_sees_enough_examples():
    seconds = gpu.EXAMPLES / 128  # so a step of a second for each batch of 128 fits exactly
    shipped, work = cnn.shipped(), [cnn.multiply_adds(config) for config in gpu.CONFIGS]
    assert gpu.CONFIGS[1] == shipped and work == sorted(work)
    ratio = [each / cnn.multiply_adds(shipped) for each in work]
    assert gpu.fitting(seconds, 0.99, 0.0, 128) == shipped
    assert gpu.fitting(seconds, 0.99 / ratio[3], 0.0, 128) == gpu.CONFIGS[3]
    assert gpu.fitting(seconds, 0.99 / ratio[3], 1.5, 128) == gpu.CONFIGS[0]  # batches too slow


def test_batches_come_in_their_order_from_any_step_on():
    batches = lambda step: (({"past": np.full(2, n)},) for n in itertools.count(step))  # noqa: E731
    found = [batch["past"][0] for (batch,) in itertools.islice(gpu.feed(3, batches, 5), 20)]
    assert found == list(range(5, 25))


def test_the_thesis_convlstm_has_its_size():
    assert gpu.thesis_convlstm().count_params() == 762_017
