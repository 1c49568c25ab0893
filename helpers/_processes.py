"""Processes beside this one, which end when it does."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process end when the one that started it is gone, however that came about.

    Call it first in each process of a pool: a pool whose parent was killed would wait for ever.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, name="end with parent", daemon=True).start()
