"""The pages with solutions hold what the course notebooks ask, and the solutions stay."""

import copy

import nbformat
import pytest
import solutions
from nbformat import v4

PAGES = sorted((solutions.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name[:2])
def test_every_page_is_up_to_date(path):
    course = nbformat.read(solutions.NOTEBOOKS / path.name, as_version=4)
    page = nbformat.read(path, as_version=4)
    made = solutions.page(course, page, path.name)
    assert made.cells == page.cells, "run: python tests/solutions.py"
    nbformat.validate(made)


TITLE = v4.new_markdown_cell("# 12 · Tides\n\nWater.")


def notebook(*names, start=1):
    """A course notebook with an exercise for each name."""
    cells = [TITLE]
    for number, name in enumerate(names, start):
        stub = f"def {name}(x):\n    return None  # your turn\n\n\nexercises.check_{name}({name});"
        cells += [
            v4.new_markdown_cell(f"Before it.\n\n## Exercise 12.{number}: {name}\n\nLook:"),
            v4.new_code_cell("some = 1"),
            v4.new_markdown_cell(f"Write {name}."),
            v4.new_code_cell(stub),
        ]
    return v4.new_notebook(cells=[*cells, v4.new_markdown_cell("## What we have seen")])


@pytest.fixture
def solved():
    """The page of two exercises, solved and run."""
    page = solutions.page(notebook("ebb", "flow"), v4.new_notebook(), "12.ipynb")
    for cell in page.cells:
        if cell.id.endswith("-solution"):
            cell.source = cell.source.replace("None  # your turn", "x")
        if cell.id.endswith("-check"):
            cell.outputs = [v4.new_output("stream", text="solved")]
    return page


def sources(page):
    return [cell.source for cell in page.cells]


def test_what_belongs_to_the_page_stays_whatever_happens_to_the_exercise(solved):
    setup, before, after = (v4.new_markdown_cell(text) for text in ("set-up", "idea", "why"))
    solved.cells[9:9] = [before]  # before and after the code that solves "flow"
    solved.cells += [after]
    solved.cells[1:1] = [setup]
    course = notebook("flow", "neap", "ebb", start=4)
    course.cells[3].source = "Write it anew."
    made = solutions.page(course, copy.deepcopy(solved), "12.ipynb")
    assert made.cells[1] == setup
    assert sources(made)[2:9] == [
        "## Exercise 12.4: flow\n\nLook:",
        "```python\nsome = 1\n```",
        "Write it anew.",
        "idea",
        "def flow(x):\n    return x",
        "assert exercises.check_flow(flow)",
        "why",
    ]
    assert made.cells[7].outputs[0].text == "solved"
    assert made.cells[12].source == "def neap(x):\n    return None  # your turn"
    assert made.cells[17].source == "def ebb(x):\n    return x"
    assert solutions.page(course, made, "12.ipynb").cells == made.cells


def test_no_solution_and_no_exercise_is_dropped_in_silence(solved):
    with pytest.raises(ValueError, match=r"solves what 12.ipynb no longer asks: flow"):
        solutions.page(notebook("ebb"), solved, "12.ipynb")
    course = notebook("ebb", "flow")
    course.cells[-2].source = "flow(1)"
    with pytest.raises(ValueError, match=r"No cell calls a check after: ## Exercise 12.2"):
        solutions.page(course, solved, "12.ipynb")
