"""The site: `make site` makes it from README, notebooks and pages, without a network."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "4D Forecasting"
copyright = "The 4D Forecasting authors"
root_doc = "README"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLVED = sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
PAGES = {
    "The course": [f"notebooks/{name}" for name in NOTEBOOKS],
    "Solutions": [f"notebooks/solutions/{name}" for name in SOLVED],
    "Working with it": [
        "docs/install",
        "docs/teaching",
        "docs/own_data",
        "CONTRIBUTING",
        "CHANGELOG",
    ],
    "Data and results": [
        "data/README",
        "data/weights/README",
        "data/results/README",
        "data/make/README",
    ],
    "Code": ["docs/api"],
}
include_patterns = ["README.md", *(f"{page}.*" for pages in PAGES.values() for page in pages)]

nb_execution_mode = "off"  # notebooks are committed with their outputs
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["index.html"]  # leads to README.html
html_sourcelink_suffix = ""
html_copy_source = False
mathjax_path = "mathjax.js"  # MathJax 3.2.2, tex-svg.js of the npm package mathjax (Apache 2.0)

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True


def setup(app):
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", as_written)


def as_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Keep bars as they are: in docstrings |A| is a size, and no substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def complete(app, name: str, source: list[str]) -> None:
    """Add the map to the first page, and fold the code of solutions."""
    if name == root_doc:
        for caption, pages in PAGES.items():
            listed = "\n".join(f"/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"
    elif name.startswith("notebooks/solutions/"):
        page = json.loads(source[0])
        for cell in page["cells"]:
            if cell["cell_type"] == "code":
                cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-cell"]
        source[0] = json.dumps(page)
