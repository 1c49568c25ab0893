"""Short runs of the laboratory, and runs of which there is only what a folder says."""

import pytest

from helpers import training
from helpers.panels import runs
from helpers.panels.runs import MONITOR, ROLLOUT, Run
from helpers.panels.settings import Settings

TINY = {"model": "CNN", "width": 8, "depth": 0, "history": 1, "batch_size": 2, "steps": 4}


def stop_at(session, step, action):
    """Run an action in which the session's training is asked to stop after so many steps."""
    advance = training.Checkpoint.on_train_batch_end

    def watched(self, batch, logs=None):
        advance(self, batch, logs)
        if self._now == step:
            session.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs._Judged, "on_train_batch_end", watched)
        return action()


def written(folder, number=1, settings=None, data="some", ended="stopped"):
    """Write down a run that nobody has trained; return its number."""
    place = folder / f"{number:04}"
    place.mkdir(parents=True)
    Run(place, settings or Settings(**TINY), 1, {MONITOR: 0.3, ROLLOUT: 0.5}, data).write(ended)
    rows = [
        {"step": 2, "seconds": 1.0, "loss": 0.2, MONITOR: 0.3, ROLLOUT: 0.5},
        {"step": 4, "seconds": 3.0, "loss": 0.1, MONITOR: 0.2 + number / 100, ROLLOUT: 0.4},
    ]
    about = {"format_version": training.CHECKPOINT_VERSION, "rows": rows}
    training.write_run(place / training.CHECKPOINT, {}, about)
    return number
