"""The exercise of notebook 00."""

from answers import says

from helpers import exercises

FORECAST = (32, 16, 16, 16)
test_shapes = says(
    exercises.check_shapes,
    (lambda: ((32, 8, 16, 16, 16), FORECAST), "solved"),
    (lambda: ((8, 16, 16, 16), FORECAST), "five axes"),
    (lambda: ((8, 32, 16, 16, 16), FORECAST), "each axis of the history"),
    (lambda: ((32, 8, 16, 16, 16), (32, 1, 16, 16, 16)), "no time axis"),
    (lambda: 7, "two tuples"),
    (lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
)
