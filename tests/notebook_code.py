"""Take what a notebook teaches out of the notebook, to hold it against the helper."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


@functools.cache
def code(path: Path) -> list[str]:
    """Return the sources of a notebook's code cells."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def definition(notebook: str, name: str, **known: Any) -> Any:
    """Return the function, class or value of that name as a notebook's code cell defines it.

    Args:
        notebook: start of the file name, for example `"03"`.
        name: what the cell defines; only the definition runs, not the rest of the cell.
        known: the names that the definition uses, for example `np=numpy`.

    Raises:
        LookupError: no code cell defines it.
    """
    (path,) = NOTEBOOKS.glob(f"{notebook}*.ipynb")
    for source in code(path):
        if name not in source or source[0] == "%":
            continue
        for node in ast.parse(source).body:
            value = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
            if value or getattr(node, "name", None) == name:
                namespace = dict(known)
                module = ast.Module([node], type_ignores=[])
                exec(compile(module, f"{path.name}:{name}", "exec"), namespace)
                return namespace[name]
    raise LookupError(f"{path.name} defines no {name}.")
