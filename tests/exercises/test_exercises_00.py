"""The exercise of notebook 00."""

from helpers import exercises


def hint(capsys, *shapes):
    solved = exercises.check_shapes(lambda: shapes if len(shapes) != 1 else shapes[0])
    return solved, capsys.readouterr().out


def test_the_right_answer_is_solved(capsys):
    solved, text = hint(capsys, (32, 8, 16, 16, 16), (32, 16, 16, 16))
    assert solved and text == "Exercise 0.1: solved.\n"


def test_typical_mistakes_get_their_hint(capsys):
    assert "five axes" in hint(capsys, (8, 16, 16, 16), (32, 16, 16, 16))[1]
    assert "each axis of the history" in hint(capsys, (8, 32, 16, 16, 16), (32, 16, 16, 16))[1]
    assert "no time axis" in hint(capsys, (32, 8, 16, 16, 16), (32, 1, 16, 16, 16))[1]
    assert "two tuples" in hint(capsys, 7)[1]


def test_an_untouched_exercise_says_so(capsys):
    solved, text = hint(capsys, None)
    assert not solved and "returns nothing yet" in text


def test_what_a_learner_raises_is_told(capsys):
    def shapes():
        return 1 / 0

    assert not exercises.check_shapes(shapes)
    assert "shapes raised ZeroDivisionError: division by zero" in capsys.readouterr().out
