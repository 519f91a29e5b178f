"""A page on a phone, through a real browser."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from advseg.platform.pages.html_page import note, page, plot, table, write_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

WIDTH = 400


def test_scrolls_its_tables_and_plots_and_never_itself(tmp_path: Path) -> None:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no browser: on Debian, `apt-get install chromium`")
    beside = make_subplots(rows=1, cols=6)
    names = Figure([Scatter(x=[1, 2], y=[1, 2], name=f"a-sweep-of-a-long-name/{n}") for n in range(20)])
    wide = table([f"heading{n}" for n in range(20)], [["1234567"] * 20])
    parts = [note(f"digest {'d' * 64}"), wide, plot(beside, "beside"), plot(names, "names")]
    write_page(tmp_path / "page.html", page("a-sweep-of-a-very-long-name-without-a-space-in-it", parts))
    with (
        playwright.sync_playwright() as driver,
        closing(driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])) as browser,
    ):
        shown = browser.new_page(viewport={"width": WIDTH, "height": 800})
        shown.goto((tmp_path / "page.html").as_uri())
        playwright.expect(shown.locator("#names .legend")).to_be_visible()
        assert shown.evaluate("document.documentElement.scrollWidth") == WIDTH
        scrolled = shown.locator(".wide").evaluate_all("all => all.map(each => each.scrollWidth > each.clientWidth)")
        assert scrolled == [True, True, False]
