"""Exercises that check themselves: `exercises.check_…(answer)` says what is off, or "solved".

The checks of a notebook stand in a file of its own, which is read when a check is asked for.
"""

import importlib
import pkgutil


def __getattr__(name: str):
    if name.startswith("check_"):
        for file in pkgutil.iter_modules(__path__, f"{__name__}."):
            check = getattr(importlib.import_module(file.name), name, None)
            if check:
                return check
    raise AttributeError(f"There is no exercise with the check {name!r}.")
