"""What all checks share: ask a learner's function, look at what comes back, give one hint."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.workshop import tensorflow


class Hint(Exception):
    """What to tell the learner; a check ends with its first one."""


def exercise(number: str) -> Callable:
    """Make the check of an exercise out of a function that raises a `Hint` where it is not solved.

    The check prints the verdict and returns whether the exercise is solved. It never raises:
    whatever a learner's function returns is an answer to explain.
    """

    def decorate(look: Callable) -> Callable:
        @functools.wraps(look)
        def check(*answers: Callable) -> bool:
            try:
                look(*answers)
            except Hint as hint:
                verdict = f"not yet. {hint}"
            except Exception as error:
                verdict = f"not yet. The result can't be read ({type(error).__name__}: {error})."
            else:
                verdict = "solved."
            print(f"Exercise {number}: {verdict}")
            return verdict == "solved."

        return check

    return decorate


def ask(function: Callable, *args) -> Any:
    """Call a learner's function; what it raises is told, and None counts as nothing yet."""
    name = getattr(function, "__name__", "your answer")
    try:
        result = function(*args)
    except Exception as error:
        raise Hint(f"{name} raised {type(error).__name__}: {error}") from None
    require(result is not None, f"{name} returns nothing yet: replace the line marked 'your turn'.")
    return result


def require(condition: bool, hint: str) -> None:
    """End the check with this hint unless the condition holds."""
    if not condition:
        raise Hint(hint)


def one_number(result: Any, hint: str = "Return one number") -> float:
    """Return a result that is a single number as a float."""
    require(np.size(result) == 1, f"{hint}, not shape {np.shape(result)}.")
    return float(np.squeeze(result))


def two(result: Any, kind: Callable, hint: str) -> tuple[Any, Any]:
    """Return both parts of a result, each put through `kind`; the hint where there are not two."""
    try:
        first, second = (kind(part) for part in result)
    except (TypeError, ValueError):
        raise Hint(hint) from None
    return first, second


def array(result: Any, shape: tuple, meaning: str, mistakes: dict[tuple, str] | None = None):
    """Return a result as an array of this shape; `mistakes` are hints for other shapes."""
    result = np.asarray(result)
    hint = f"The result has shape {result.shape}; expected {shape}, {meaning}."
    require(result.shape == shape, (mistakes or {}).get(result.shape, hint))
    return result


def compare(
    found: Any,
    expected: Any,
    mistakes: dict[str, Any],
    otherwise: str = "",
    case: str = "",
    atol: float = 1e-8,
) -> None:
    """Return if what was found is as expected; otherwise end the check with the fitting hint.

    Args:
        found, expected: numbers or arrays of one shape; whole numbers must be equal.
        mistakes: hints, each with what its mistake would give, or with a list of what it might
            give; the first that fits is said.
        otherwise: what to say if none fits; by default where the two differ most.
        case: what the answer was tried on; the hints then go on in the middle of a sentence.
        atol: tolerance, beside a relative one of 1e-5.
    """
    rtol = 0 if np.asarray(expected).dtype.kind in "iu" else 1e-5
    found, expected = np.asarray(found, float), np.asarray(expected, float)

    def close(value):
        return np.allclose(found, value, rtol, atol)

    if close(expected):
        return
    if not otherwise:
        gap = np.nan_to_num(np.abs(found - expected), nan=np.inf)
        place = np.unravel_index(gap.argmax(), gap.shape)
        where = f"at {[int(axis) for axis in place]} " if place else ""
        otherwise = f"{where}expected {expected[place]:,.6g}, found {found[place]:,.6g}."
        otherwise = otherwise if case else otherwise[0].upper() + otherwise[1:]
    several = ((hint, v if isinstance(v, list) else [v]) for hint, v in mistakes.items())
    hints = (hint for hint, values in several if any(map(close, values)))
    raise Hint((f"{case}: " if case else "") + next(hints, otherwise))


def try_suspects(judge: Callable, given: np.ndarray, suspects: dict, words: dict[str, str]) -> None:
    """Check a test that a learner wrote to find the guilty among some models.

    Args:
        judge: the learner's test, from a model and an array to True if it is guilty.
        given: the array to try the models on.
        suspects: what each model does, with the model and the hint if it is let pass; the hint
            is None for the innocent.
        words: `who` and `what` the model and the array are, what it `does` if guilty, and what to
            say if `nobody` was found, and when an `innocent` one was.
    """
    verdicts = {}
    for name, (model, _) in suspects.items():
        mine = given.copy()
        verdicts[name] = ask(judge, model, mine)
        hint = f"You change the {words['what']} that you were given: copy first."
        require(np.array_equal(mine, given), hint)
        hint = f"Return True or False for the {words['who']} as a whole: np.any."
        require(isinstance(verdicts[name], (bool, np.bool_)), hint)
    require(any(verdicts.values()), words["nobody"])
    for name, (_, hint) in suspects.items():
        model = f"The {words['who']} that {name}"
        if hint is None:
            require(not verdicts[name], f"{model} is innocent{words['innocent']}")
        else:
            require(verdicts[name], f"{model} {words['does']}, and you let it pass. {hint}".strip())


def differentiate(function: Callable, *given: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what a function of tensors gives, and its gradient by the last argument, if any."""
    tf = tensorflow()
    tensors = [tf.constant(array) for array in given]
    with tf.GradientTape() as tape:
        tape.watch(tensors[-1])
        result = ask(function, *tensors)
    hint = "Use keras.ops instead of NumPy: the gradient has to pass through your code."
    require(tf.is_tensor(result), hint)
    gradient = tape.gradient(result, tensors[-1])
    return result.numpy(), None if gradient is None else gradient.numpy()


def try_experiment(expected: Any, measured: dict, rerun: Callable, tolerance: float = 0.01) -> None:
    """Check an experiment that changes one knob: the guess comes first, and the numbers hold.

    Args:
        expected: the setting that the learner expects to have the lowest distance.
        measured: each setting that was trained, with its distance on validation sequences.
        rerun: trains with a setting again, from the same seed, and returns that distance. It is
            called for the setting that was measured as the best.
        tolerance: two runs from one seed differ by the order in which processors add.
    """
    hint = "Say first which setting you expect to be the best, in the line marked 'your turn'."
    require(expected is not None, hint)
    hint = "Train at least two settings, and keep the distance of each: {setting: distance}."
    require(isinstance(measured, dict) and len(measured) > 1, hint)
    hint = f"You expect {expected!r} to be the best, and have not trained it."
    require(expected in measured, hint)
    numbers = {setting: one_number(value) for setting, value in measured.items()}
    best = min(numbers, key=numbers.get)
    again = one_number(ask(rerun, best))
    require(
        abs(again - numbers[best]) <= tolerance,
        f"You found {numbers[best]:.4f} with {best!r}; trained again from the same seed it is "
        f"{again:.4f}. Keep the distance on validation sequences after the whole training.",
    )


def try_seeds(expected: Any, measured: dict, rerun: Callable, tolerance: float = 0.004) -> None:
    """Check an experiment with three seeds for each setting, as `try_experiment` does with one.

    Args:
        expected, measured: see `try_experiment`; the distances with seeds 1, 2 and 3.
        rerun: trains with a setting and a seed. It is called for the best in the mean, with seed 1.
        tolerance: of that mean.
    """
    if isinstance(measured, dict):
        hint = "Keep three distances for each setting, with the seeds 1, 2 and 3."
        require(all(np.shape(found) == (3,) for found in measured.values()), hint)
        means = {setting: np.mean(found) for setting, found in measured.items()}
    else:
        means = measured

    def again(setting):
        return np.mean([rerun(setting, 1), *measured[setting][1:]])

    try_experiment(expected, means, again, tolerance)
