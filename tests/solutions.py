"""Make the pages with the solutions, so that the text of an exercise stands in one place.

A page in `notebooks/solutions` has two kinds of cells. Those tagged `copied` are made here, from
the course notebook of the same name: the title, each exercise as it is put there, and its check.
All others belong to the page: its set-up, and for each exercise a code cell that solves it, with
whatever else there is to say or to show. A new page begins as an empty notebook.

    python tests/solutions.py    brings every page up to date
"""

import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode, v4
from notebook_code import NOTEBOOKS

HEADING = re.compile(r"^## Exercise \d+\.\d+", re.MULTILINE)
CHECK = re.compile(r"^exercises\.check_(\w+)\(.*\)", re.MULTILINE)
METADATA = {"deletable": False, "editable": False, "tags": ["copied"]}


def exercises(course: NotebookNode) -> Iterator[tuple[str, list[str], str]]:
    """Yield the name of each exercise of a notebook, its text in parts, and the learner's cell.

    An exercise begins with its heading and ends with the cell that calls its check.

    Raises:
        ValueError: an exercise without a check.
    """
    parts: list[str] = []
    for cell in [*course.cells, v4.new_markdown_cell("## Exercise 0.0: the end")]:
        code = cell.cell_type == "code"
        heading, check = HEADING.search(cell.source), CHECK.search(cell.source)
        if heading and not code:
            if parts:
                raise ValueError(f"No cell calls a check after: {parts[0].splitlines()[0]}")
            parts = [cell.source[heading.start() :]]
        elif code and check and parts:
            yield check[1], parts, cell.source
            parts = []
        elif parts:
            parts.append(f"```python\n{cell.source}\n```" if code else cell.source)


def page(course: NotebookNode, old: NotebookNode, name: str) -> NotebookNode:
    """Return a page with solutions brought up to date with its course notebook.

    Args:
        course: the course notebook.
        old: the page as it is. An exercise that it does not have yet gets the learner's cell.
        name: file name of both.

    Raises:
        ValueError: an exercise without a check, or a solution whose exercise is gone.
    """
    before = {cell.id: cell for cell in old.cells}
    own: dict[str, list[NotebookNode]] = {"": []}  # the page's own cells by exercise
    section = ""
    for cell in old.cells:
        if "copied" not in cell.metadata.get("tags", []):
            own[section].append(cell)
        elif cell.id.endswith("-0"):
            section = cell.id[:-2]
            own[section] = []

    def copied(id: str, source: str, new=v4.new_markdown_cell) -> NotebookNode:
        kept = before.get(id)  # with its outputs
        return kept if kept and kept.source == source else new(source, id=id, metadata=METADATA)

    title = course.cells[0].source.splitlines()[0].removeprefix("# ")
    back = f"# Solutions · {title}\n\nBack to the [notebook](../{name})"
    cells = [copied("title", back), *own.pop("")]
    for exercise, parts, stub in exercises(course):
        check = f"assert {CHECK.search(stub)[0]}"
        todo = v4.new_code_cell(CHECK.sub("", stub).rstrip("; \n"), id=f"{exercise}-solution")
        mine = own.pop(exercise, []) or [todo]
        first = next((n for n, cell in enumerate(mine, 1) if cell.cell_type == "code"), len(mine))
        cells += [copied(f"{exercise}-{n}", part) for n, part in enumerate(parts)]
        cells += [*mine[:first], copied(f"{exercise}-check", check, v4.new_code_cell)]
        cells += mine[first:]
    if any(own.values()):
        gone = [exercise for exercise, mine in own.items() if mine]
        raise ValueError(f"solutions/{name} solves what {name} no longer asks: {', '.join(gone)}.")
    return v4.new_notebook(cells=cells, metadata=old.metadata)


def main() -> None:
    for path in sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb")):
        old = nbformat.read(path, as_version=4)
        new = page(nbformat.read(NOTEBOOKS / path.name, as_version=4), old, path.name)
        if new.cells != old.cells:
            nbformat.write(new, path)
            print(f"{path.name}: brought up to date")


if __name__ == "__main__":
    main()
