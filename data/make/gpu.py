"""A few minutes on a GPU: measure what a step costs there, and train the CNN.

It needs no TensorFlow. Beside JAX, NumPy and SciPy it takes Keras with what that needs (absl-py,
h5py, ml-dtypes, optree, packaging, rich), filelock, pandas, platformdirs and tqdm. What a machine
without a network lacks is fetched elsewhere, for its Python and processor, and used there:

    pip download --no-deps --only-binary=:all: --python-version 3.12 \\
        --platform manylinux_2_28_x86_64 --dest wheels keras==3.15.1 optree==0.20.0 platformdirs
    pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python -m data.make.gpu --minutes 9 --out runs/gpu --data training-*.npz
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # before helpers, which would load it on TensorFlow

from helpers import _files, training, workshop
from helpers.models import cnn
from helpers.models.weights import save_weights
from helpers.records import PackedSplit
from helpers.sequences import T20_TINC1, THESIS_FORMATS
from helpers.world import cavities

CNN, THESIS, BATCH = "CNN", "ConvLSTM of the thesis", "batch of the CNN"  # what is measured
POLICIES = "float32", "mixed_bfloat16"  # JAX multiplies float32 as TF32 on GPUs that have it
# The batches: large ones, that keep a GPU busy and train the CNN, and those of recipe and thesis.
FULL = {"config": cnn.shipped(), "sizes": (128, 12), "thesis_sizes": (16, 64), "filters": 32}
FULL |= {"seconds": 2.0, "round": 60}
TINY = {"config": cnn.Config(4, 2, width=8, blocks=1), "sizes": (2,), "thesis_sizes": (1,)}
TINY |= {"filters": 2, "seconds": 0.2, "round": 2}
# Of the CNN that is trained, the smallest first; one fits if so many examples can be seen.
CONFIGS = [cnn.Config(width=w, blocks=b) for w, b in ((64, 4), (128, 8), (192, 12), (256, 16))]
EXAMPLES = 2_000_000
JAX = keras.backend.backend() == "jax"  # slow uncompiled; TensorFlow runs as elsewhere here


class Shards(PackedSplit):
    """Samples in memory, read as a packed split is: bits are uint8 (N, 128, 512)."""

    shape = (128, 16, 16, 16)

    def __init__(self, bits: np.ndarray, source: str):
        if bits.dtype != np.uint8 or bits.shape[1:] != (128, 512):
            raise ValueError(f"frames are {bits.dtype} {bits.shape}; expected uint8 (N, 128, 512).")
        self._bits, self.source, self.sample_id = bits, source, np.arange(len(bits))


def load(run: SimpleNamespace) -> tuple[Shards, Shards]:
    """Read or generate samples; those of the last twentieth are kept for the validation."""
    if run.data:
        bits = np.concatenate([np.load(path)["frames"] for path in run.data])
        source = ", ".join(path.name for path in run.data)
    else:
        source, end = "generated, seed 1", time.monotonic() + run.generate
        made = cavities.generate(10**9, seed=1, processes=run.threads)
        made = itertools.takewhile(lambda each: each.sample_id < 2 or time.monotonic() < end, made)
        bits = np.stack([np.packbits(each.frames.reshape(128, -1), axis=-1) for each in made])
    first, last = np.split(bits, [max(len(bits) * 19 // 20, 1)])
    return Shards(first, source), Shards(last, source)


def feed(threads: int, batches: Callable[[int], Iterator], start: int) -> Iterator[tuple]:
    """Yield the batches from a step on, in their order, made ahead of time in several threads."""

    def make(step: int) -> tuple:
        # Each array in one piece: so it is copied to the GPU many times as fast.
        return keras.tree.map_structure(np.ascontiguousarray, next(batches(step)))

    pool, steps = ThreadPoolExecutor(threads), itertools.count(start)
    waiting = collections.deque(pool.submit(make, next(steps)) for _ in range(2 * threads))
    try:
        while True:
            yield waiting.popleft().result()
            waiting.append(pool.submit(make, next(steps)))
    finally:
        pool.shutdown(cancel_futures=True)


def thesis_convlstm(filters: int = 32) -> keras.Model:
    """The thesis's ConvLSTM in Keras's own layers, as in notebook 04, and its training."""
    layers = keras.layers
    options = {"padding": "same", "return_sequences": True, "activation": "relu"}
    options["recurrent_activation"] = lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
    model = keras.Sequential([keras.Input((None, 16, 16, 16, 1))])  # (B, T, D, H, W, 1)
    for kernel in (5, 3, 1):
        model.add(layers.ConvLSTM3D(filters, kernel, **options))
        model.add(layers.BatchNormalization())
    model.pop()  # there is none after the last
    model.add(layers.TimeDistributed(layers.Conv3D(1, 5, padding="same")))
    model.add(layers.Activation("sigmoid", dtype="float32"))
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", jit_compile=JAX)
    return model


def network(config: cnn.Config, plan: training.Plan) -> keras.Model:
    """The CNN, and its training."""
    model = cnn.build(config)
    model.compile(**cnn.compile_options(config, plan), jit_compile=JAX)
    return model


def measure(model: keras.Model, batches: Iterator[tuple], seconds: float) -> dict:
    """Train for so many seconds; return those of a step, and those of compiling it."""
    ends = [time.perf_counter()]

    def note(batch, logs):
        float(logs["loss"])  # waits for the GPU, as a run with checkpoints does
        ends.append(time.perf_counter())
        if len(ends) > 4 and ends[-1] - ends[2] > seconds:
            model.stop_training = True

    found, watch = {"parameters": model.count_params()}, keras.callbacks.LambdaCallback
    try:
        model.fit(batches, callbacks=[watch(on_train_batch_end=note)], verbose=0, shuffle=False)
    except RuntimeError as error:  # it needs too much memory, or arithmetic that is missing
        return {**found, "error": str(error)[:200]}
    step = (ends[-1] - ends[2]) / (len(ends) - 3)
    return {**found, "step_seconds": step, "compile_seconds": ends[2] - ends[0] - 2 * step}


def fitting(seconds: float, step: float, fed: float, batch_size: int) -> cnn.Config:
    """Return the largest of `CONFIGS` of which `EXAMPLES` can be seen in the time, or the smallest.

    `step` are the seconds that `cnn.shipped()` needs; the others are taken to need as much more as
    they have multiply-adds more. `fed` are those in which a batch is made: no step is faster.
    """
    one = step / cnn.multiply_adds(cnn.shipped())
    costs = [max(fed, one * cnn.multiply_adds(each)) * EXAMPLES / batch_size for each in CONFIGS]
    return CONFIGS[max(sum(each <= seconds for each in costs) - 1, 0)]


def measure_all(run: SimpleNamespace, data: Shards) -> None:
    """Measure both networks, the CNN first, in half of the time: the other half is to train."""
    end = (run.begin + run.end) / 2

    def steps(what: str, size: int, batch: tuple, build: Callable[[], keras.Model]) -> None:
        for policy in POLICIES:
            if time.monotonic() < end:
                with workshop.Hardware(policy, JAX).scope():
                    found = measure(build(), (batch for _ in itertools.count()), run.seconds)
                run.add(what, size, policy=policy, **found)

    for size, thesis_size in zip(run.sizes, run.thesis_sizes):
        plan = training.Plan(1, size)
        made = feed(run.threads, cnn.batches(data, THESIS_FORMATS, run.config, plan), 0)
        since, count = time.perf_counter(), 4 * run.threads
        *_, batch = itertools.islice(made, count)
        fed = (time.perf_counter() - since) / count
        made.close()
        run.add(BATCH, size, threads=run.threads, step_seconds=fed)
        steps(CNN, size, batch, functools.partial(network, run.config, plan))
        frames = T20_TINC1.select(data.frames(np.arange(thesis_size) % len(data)))[..., None]
        batch = np.float32(frames[:, :-1]), np.float32(frames[:, 1:])
        steps(THESIS, thesis_size, batch, functools.partial(thesis_convlstm, run.filters))


def train(run: SimpleNamespace, data: Shards, checked: Shards) -> None:
    """Train the CNN that fits the time, and leave the weights of its best round."""
    size, left, (batch, *rows) = run.sizes[0], run.end - time.monotonic(), run.found["rows"]
    known = [row for row in rows[:2] if row["what"] == CNN and "step_seconds" in row]
    if not known:
        raise SystemExit("No step of the CNN could be measured in this time; nothing was trained.")
    step, policy = min((row["step_seconds"], row["policy"]) for row in known)
    config = run.config if run.tiny else fitting(left, step, batch["step_seconds"], size)
    plan = training.Plan(1, size)
    batches = cnn.batches(data, THESIS_FORMATS, config, plan)
    batches = functools.partial(feed, run.threads, batches)
    with workshop.Hardware(policy, JAX).scope():
        # Its speed with all that belongs to it says how long the plan is. It is compiled again
        # then, since the learning rate of each step is a part of the program.
        found = measure(network(config, plan), batches(0), run.seconds)
        run.add(f"{CNN}, to be trained", size, policy=policy, **found)
        step = found["step_seconds"]
        left = run.end - time.monotonic() - found["compile_seconds"]
        steps, every = (max(int(each / step), 1) for each in (0.85 * left, run.round))
        own = {"learning_rate": run.learning_rate, "warm_up": min(300, steps // 10)}
        own |= {"decay": "linear", "decay_from": 0.3, "weight_decay": 1e-4}
        plan = training.Plan(steps, size, **own, validate_every=min(every, steps))
        model, asked = network(config, plan), []
        checkpoint = training.Checkpoint(run.out, plan, cnn.monitor(config), resume=False)
        signal.signal(signal.SIGTERM, lambda *_: asked.append("to stop"))
        over = SimpleNamespace(is_set=lambda: asked or time.monotonic() > run.end)
        validation = cnn.validation(checked, THESIS_FORMATS, config, 152)
        stops = [training.Stop(run.out, over)]
        training.train(model, batches, checkpoint, validation=validation, callbacks=stops)
    card = {"model": "cnn", "formats": [found.name for found in THESIS_FORMATS]}
    card |= {"data": run.found["data"], "machine": run.found["machine"], "policy": policy}
    card |= {"plan": dataclasses.asdict(plan), "log": checkpoint.rows}
    card["steps"] = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    # Before the end of the first round none is best, and the weights are those of the last step.
    card["best"] = training.load_best(run.out, model) if checkpoint.best else None
    save_weights(run.out / "cnn.npz", model, card)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the thesis's ConvLSTM and the CNN, and train the CNN as long as there is time.

    FOLDER receives measurements, log and weights, also if it is stopped while it trains.
    """
    parser = argparse.ArgumentParser(prog="python -m data.make.gpu", description=main.__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="for everything")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", type=Path, nargs="+", help="packed .npz; none: generated")
    parser.add_argument("--generate", type=float, default=60, help="so many seconds")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the highest")
    parser.add_argument("--tiny", action="store_true", help="small networks, for a try")
    chosen = parser.parse_args(arguments)
    run = SimpleNamespace(**vars(chosen), **(TINY if chosen.tiny else FULL))
    run.begin, run.threads = time.monotonic(), workshop.cores()
    run.end = run.begin + 60 * run.minutes - min(20, 6 * run.minutes)  # then weights are written
    run.found = {"machine": {"cores": run.threads, "keras": keras.__version__}, "rows": []}
    if jax := sys.modules.get("jax"):
        run.found["machine"] |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}

    def add(what: str, batch_size: int, **figures) -> None:
        run.found["rows"].append({"what": what, "batch_size": batch_size, **figures})
        print(f"{time.monotonic() - run.begin:4.0f} s", run.found["rows"][-1], flush=True)
        _files.write_json(run.out / "measurements.json", run.found)

    run.add = add
    warnings.filterwarnings("ignore", "Explicitly requested dtype")  # JAX has no float64
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # until the training begins
    run.out.mkdir(parents=True, exist_ok=True)
    data, checked = load(run)
    run.found["data"] = f"{len(data)} training samples: {data.source}"
    measure_all(run, data)
    train(run, data, checked)


if __name__ == "__main__":
    main()
