"""Short runs of the laboratory, and runs of which there is only what a folder says."""

import pytest

from helpers import training
from helpers.models import weights
from helpers.panels import runs
from helpers.panels.settings import Settings

TINY = {"width": 8, "depth": 0, "history": 1, "batch_size": 2, "steps": 4, "seconds": 600}


def stop_at(session, step, action):
    """Run an action in which the session's training is asked to stop after so many steps."""
    advance = runs._Watch.on_train_batch_end

    def watched(self, batch, logs=None):
        advance(self, batch, logs)
        if session.step == step:
            session.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs._Watch, "on_train_batch_end", watched)
        return action()


def written(table, settings=None, **changes):
    """Write down a run that nobody has trained; return its number."""
    found = {"settings": vars(settings or Settings(**TINY)), "steps": 4, "parameters": 1}
    found |= {"persistence": 0.3, "data": "some", "began_with": None}
    run = table.create(**found | changes)
    rows = [
        {"step": 2, "seconds": 1.0, "loss": 0.2, "val_jaccard": 0.3},
        {"step": 4, "seconds": 3.0, "loss": 0.1, "val_jaccard": 0.2},
    ]
    about = {"format_version": training.CHECKPOINT_VERSION, "rows": rows}
    weights.write_archive(table.place(run) / training.CHECKPOINT, {}, about)
    return run
