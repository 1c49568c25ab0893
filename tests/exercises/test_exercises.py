"""What every check promises, whatever an answer returns."""

import inspect
import re

import nbformat
import numpy as np
import pytest
from answers import says
from notebook_code import NOTEBOOKS, definition

from helpers import exercises
from helpers.exercises._shared import exercise, try_experiment


def stubs():
    """Each check that a notebook calls, with the notebook and the names of its answers."""
    call = re.compile(r"^exercises\.(check_\w+)\((.*)\);", re.MULTILINE)
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for name, answers in call.findall(cell.source):
                yield pytest.param(path.name[:2], name, answers.split(", "), id=name)


@pytest.mark.parametrize(("notebook", "name", "answers"), stubs())
def test_an_untouched_exercise_says_so(notebook, name, answers, capsys):
    check = getattr(exercises, name)
    assert not check(*(definition(notebook, answer, np=np) for answer in answers))
    text = capsys.readouterr().out
    assert text.startswith(f"Exercise {int(notebook)}.")
    assert "'your turn'" in text or name == "check_mended_pipeline"


ODD = ["text", True, -1, np.nan, [], {}, [[1], [2, 3]], object(), range, np.full((2, 3), np.nan)]


@pytest.mark.parametrize(("notebook", "name", "answers"), stubs())
def test_whatever_comes_back_is_told_in_one_line(notebook, name, answers, capsys):
    check = getattr(exercises, name)
    functions = [lambda *given, value=value: value for value in ODD]
    functions += [lambda *given: 1 / 0, lambda: 0, None]
    for function in functions:
        assert not check(*[function] * len(answers))
        text = capsys.readouterr().out
        assert text.startswith(f"Exercise {int(notebook)}.") and text.count("not yet. ") == 1
        assert text.count("\n") == 1, text
    assert "raised TypeError" in text or "Say first" in text  # of an experiment's missing guess


def test_a_check_is_found_by_name_and_documented():
    check = exercises.check_select
    assert inspect.getdoc(check).startswith("Check exercise 2.1")
    with pytest.raises(AttributeError, match="check_nothing"):
        exercises.check_nothing  # noqa: B018


def run(setting):
    return {1: 0.3, 2: 0.2}[setting]


@exercise("0.0")
def check_experiment(expected, measured):
    try_experiment(expected, measured, run)


test_an_experiment_begins_with_a_guess_and_its_numbers_hold = says(
    check_experiment,
    ((None, {1: 0.3, 2: 0.2}), "first which setting"),
    ((1, {1: 0.3}), "at least two"),
    ((3, {1: 0.3, 2: 0.2}), "have not trained it"),
    ((1, {1: 0.3, 2: 0.15}), "from the same seed it is 0.2000"),
    ((1, {1: 0.3, 2: 0.2}), "solved"),
)
