"""The training of notebook 05 in NumPy, TensorFlow and Keras alone, without the course's helpers.

    python tests/plain_training.py data/sample

reads the records, trains the small network, and forecasts five frames beside persistence. There is
no checkpoint, no stop and no card: that is what the helpers add. A test holds both to one loss.
"""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

GRID, PATCH = 16, 2
TIMES = np.arange(24, 104, 4)  # T80_TINC4: the 80 time points in the middle, every fourth
TRAINING, VALIDATION = "00_4D_training_datasets", "01_4D_validation_datasets"


def read(folder: Path, limit: int | None = None) -> np.ndarray:
    """Read the sequences of a folder of records: float32 (N, T, D, H, W, 1), 0 and 1."""
    files = sorted(str(path) for path in folder.glob("*.tfrecords"))[:limit]
    wanted = {"object4d": tf.io.FixedLenFeature([], tf.string)}
    found = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP"):
        raw = tf.io.parse_single_example(record, wanted)["object4d"].numpy()
        points = np.frombuffer(raw, np.uint8).reshape(128, GRID, GRID, GRID)
        found.append(points[TIMES])
    return np.stack(found)[..., np.newaxis].astype("float32")


def to_patches(frames):
    """Cut frames into cubes of 2³ voxels, which become channels: (…, D, H, W, 1) to (…, 8)."""
    n = GRID // PATCH
    cut = ops.reshape(frames, (-1, n, PATCH, n, PATCH, n, PATCH))
    return ops.reshape(ops.transpose(cut, (0, 1, 3, 5, 2, 4, 6)), (-1, n, n, n, PATCH**3))


def to_voxels(patches):
    """Put the cubes together again."""
    n = GRID // PATCH
    cut = ops.reshape(patches, (-1, n, n, n, PATCH, PATCH, PATCH))
    return ops.reshape(ops.transpose(cut, (0, 1, 4, 2, 5, 3, 6)), (-1, GRID, GRID, GRID, 1))


def network(filters: int = 8, kernel: int = 3, width: int = 32, blocks: int = 2) -> keras.Model:
    """Build the ConvLSTM of notebook 04 for sequences of 19 frames.

    Everything but the memory looks at frames one by one, so they stand in one row, (B · T, …).
    """
    steps, n, voxels = len(TIMES) - 1, GRID // PATCH, PATCH**3
    frames = keras.Input((steps, GRID, GRID, GRID, 1))
    patches = to_patches(frames)
    sequences = ops.reshape(patches, (-1, steps, n, n, n, voxels))
    before = ops.concatenate([sequences[:, :1], sequences[:, :-1]], axis=1)
    seen = ops.concatenate([sequences, before], axis=-1)  # each frame beside the one before
    memory = layers.ConvLSTM3D(filters, kernel, padding="same", return_sequences=True)(seen)
    hidden = ops.reshape(
        ops.concatenate([memory, seen], axis=-1), (-1, n, n, n, filters + 2 * voxels)
    )
    hidden = layers.Dense(width)(hidden)
    for _ in range(blocks):
        inner = layers.Dense(width // 4, activation="silu")(hidden)
        inner = layers.Conv3D(width // 4, 3, padding="same", activation="silu")(inner)
        hidden = hidden + layers.Dense(width)(inner)
    change = layers.Conv3D(voxels, 1, kernel_initializer="zeros")(hidden)
    logits = change + 4 * (2 * patches - 1)  # untrained, it is persistence
    probability = ops.sigmoid(to_voxels(logits))
    return keras.Model(frames, ops.reshape(probability, (-1, steps, GRID, GRID, GRID, 1)))


def voxel_loss(truth, probability):
    """Cross-entropy of each voxel, and a little of the soft Jaccard distance of each sequence."""
    axes = (1, 2, 3, 4, 5)
    cross_entropy = ops.mean(ops.binary_crossentropy(truth, probability), axis=axes)
    hits = ops.sum(probability * truth, axis=axes)
    union = ops.sum(probability + truth - probability * truth, axis=axes)
    return cross_entropy + 0.05 * (1 - hits / ops.maximum(union, 1e-7))


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line, stays, and falls to 0 in another one."""

    def __init__(self, peak: float, steps: int, warm_up: int, decay_from: float = 0.3):
        self.peak, self.steps, self.warm_up, self.decay_from = peak, steps, warm_up, decay_from

    def __call__(self, step):
        step, start = ops.cast(step, "float32"), self.decay_from * self.steps
        rise = ops.minimum((step + 1) / max(self.warm_up, 1), 1)
        return self.peak * rise * (1 - ops.clip((step - start) / (self.steps - start), 0, 1))


def train(model, sequences, steps: int, *, batch_size: int = 2, rate: float = 1e-2, seed: int = 5):
    """Train a network for some steps; return the mean loss over them.

    Sequences come in an order of their own in each epoch, the one that the course draws.
    """
    epochs = -(-steps * batch_size // len(sequences))
    order = [np.random.default_rng([seed, n]).permutation(len(sequences)) for n in range(epochs)]
    chosen = sequences[np.concatenate(order)[: steps * batch_size]]
    optimizer = keras.optimizers.AdamW(
        Schedule(rate, steps, steps // 15), weight_decay=1e-4, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, voxel_loss, jit_compile=False)
    options = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
    return model.fit(chosen[:, :-1], chosen[:, 1:], **options).history["loss"][0]


def rollout(model, history, horizon: int) -> np.ndarray:
    """Forecast frames after a history (B, n, D, H, W, 1): each one is fed back.

    The network reads 19 frames. It is causal, so what stands after the last known one is ignored.
    """
    frames = np.zeros((len(history), len(TIMES) - 1, *history.shape[2:]), "float32")
    known = history.shape[1]
    frames[:, :known] = history
    for time in range(known, known + horizon):
        frames[:, time] = model.predict(frames, verbose=0)[:, time - 1]
    return frames[:, known : known + horizon]


def distance(truth, forecast) -> np.ndarray:
    """Return the Jaccard distance of each frame, (B, T, D, H, W, 1) to (B, T); empty agrees."""
    truth, forecast, axes = truth >= 0.5, forecast >= 0.5, (2, 3, 4, 5)
    union = (truth | forecast).sum(axis=axes)
    return np.where(union > 0, 1 - (truth & forecast).sum(axis=axes) / np.maximum(union, 1), 0.0)


def main(data: Path, steps: int = 120, history: int = 5, horizon: int = 5) -> None:
    keras.utils.set_random_seed(5)
    model = network()
    loss = train(model, read(data / TRAINING), steps)
    print(f"{steps} steps, mean loss {loss:.4f}")
    sequences = read(data / VALIDATION, 24)
    truth = sequences[:, history : history + horizon]
    forecast = distance(truth, rollout(model, sequences[:, :history], horizon)).mean(axis=0)
    persistence = distance(truth, sequences[:, history - 1 : history]).mean(axis=0)
    for step, pair in enumerate(zip(forecast, persistence), 1):
        print("{} steps ahead: forecast {:.3f}, persistence {:.3f}".format(step, *pair))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
