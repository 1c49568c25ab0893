"""Check functions of the exercises: each tries a learner's answer and prints what is off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def report(exercise: str, problems: list[str]) -> bool:
    """Print the verdict on one exercise and return whether it is solved.

    Args:
        exercise: its number, for example `"1.2"`.
        problems: what is off, most important first; empty when all is well. Only the first is
            printed: one hint at a time.
    """
    print(f"Exercise {exercise}: " + (f"not yet. {problems[0]}" if problems else "solved."))
    return not problems


def attempt(function: Callable, *args, **kwargs):
    """Call a learner's function; return (result, None), or (None, a sentence on what happened).

    A result of `None` counts as "nothing returned yet"; an exception is told, not raised.
    """
    name = getattr(function, "__name__", "your answer")
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # whatever a learner's code raises is an answer to explain
        return None, f"{name} raised {type(error).__name__}: {error}"
    if result is None:
        return None, f"{name} returns nothing yet: replace the line marked 'your turn'."
    return result, None
