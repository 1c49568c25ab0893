"""The site: made without a warning; its links lead somewhere, and a browser shows its pages."""

from __future__ import annotations

import html.parser
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from browser.test_browser import CHROMIUM, PATIENCE, sync_api

REPOSITORY = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.slow
SHOWN = ("README", "notebooks/06_build_a_wgan_gp", "data/results/README", "docs/api")


class Links(html.parser.HTMLParser):
    """Collects what a page names, and what it can be asked for by name."""

    def __init__(self, page: Path):
        super().__init__()
        self.named, self.ids = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.named += [attributes[name] for name in ("href", "src") if attributes.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="the site is made with Python 3.11 or later")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q"]
    command += ["-b", "html", "-c", "docs", ".", str(folder), "-d", str(folder / "cache")]
    made = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)
    assert made.returncode == 0, made.stderr
    return folder


def test_every_link_leads_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 30
    for page, links in pages.items():
        for named in links.named:
            target = urllib.parse.urlsplit(named)
            if target.scheme or target.netloc or "_static" in target.path:
                continue
            path = (page.parent / urllib.parse.unquote(target.path)).resolve()
            path = page if not target.path else path
            assert path.exists(), f"{page.relative_to(site)}: {named}"
            anchor = urllib.parse.unquote(target.fragment)
            assert not anchor or path not in pages or anchor in pages[path].ids, (page, named)


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_pictures_and_formulas_without_a_network(site, width):
    asked = []

    def answer(route):
        asked.append(route.request.url)
        route.abort()

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        page.route("http*://**", answer)
        for name in SHOWN:
            page.goto((site / f"{name}.html").as_uri())
            page.wait_for_load_state("load")
            blank = page.evaluate(
                "[...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length"
            )
            assert blank == 0, name
            without = page.evaluate("[...document.images].filter(i => !i.alt.trim()).length")
            assert without == 0, name
            if page.locator(".math").count():
                page.wait_for_selector("mjx-container svg")
            if kept := os.environ.get("BROWSER_ARTEFACTS"):
                path = Path(kept) / f"site-{name.replace('/', '-')}-{width}.png"
                page.screenshot(path=path)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width + 1, f"{name} is {wide} pixels wide"
        page.goto((site / "index.html").as_uri())
        page.wait_for_url("**/README.html")
        browser.close()
    assert not asked
