"""The pages for readers: every notebook on the map, no link that leads nowhere, small pictures."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("**/*.md")),
    *sorted((REPOSITORY / "data").glob("**/*.md")),
]


def links(page: Path) -> list[str]:
    """Return what a page links to, pictures included."""
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))


def test_the_map_shows_every_notebook_once_and_in_order():
    names = [f"notebooks/{path.name}" for path in sorted(REPOSITORY.glob("notebooks/*.ipynb"))]
    assert len(names) > 11
    assert [link for link in links(REPOSITORY / "README.md") if link.endswith(".ipynb")] == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_link_leads_nowhere(page):
    here = [link for link in links(page) if "://" not in link]
    missing = [link for link in here if not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


def test_every_page_for_readers_is_linked_from_the_readme():
    linked = {(REPOSITORY / link).resolve() for link in links(REPOSITORY / "README.md")}
    assert set(PAGES[1:]) <= linked


def test_pictures_say_what_is_seen_and_load_fast():
    found = 0
    for page in PAGES:
        for text, link in re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", page.read_text("utf-8")):
            assert len(text) > 20, link
            assert (page.parent / link).stat().st_size < 60_000, link
            found += 1
    assert found >= 3
