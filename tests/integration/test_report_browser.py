"""Pages in a real browser: nothing sticks out, is asked for or runs, and all can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.inputs.events import InputEvents
from playmill.report import command
from playmill.report.command import Wishes
from playmill.testing import make_recording
from tests.integration.browser import Browser, find_browser, running_browser
from tests.unit.report_samples import make_dataset, make_hostile

KINDS = ("made of a recording", "hostile", "without events", "index")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running browser; REQUIRE_BROWSER=1 turns the skip into a failure."""
    program = find_browser()
    if program is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium or Chrome on the PATH, and REQUIRE_BROWSER is 1")
        pytest.skip("no Chromium or Chrome on the PATH")
    with running_browser(program) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The index of a folder of datasets, and their pages."""
    place = tmp_path_factory.mktemp("pages")
    recording = make_recording(place / "rec", session_id="made", seconds=4, drop=range(60, 75))
    config = PipelineConfig(encoder="mean_pixel", image_size=(96, 128))
    pipeline.run(recording.folder, place / "datasets", config)
    hostile = make_hostile(place / "datasets")
    make_dataset(place / "datasets", 1, session_id="empty", events=InputEvents.none())
    assert command.write(place / "datasets", place / "index.html", Wishes(), say=lambda line: None)
    return {
        "made of a recording": place / "index-pages" / "session_made.html",
        "hostile": place / "index-pages" / f"{hostile.parent.name}.html",
        "without events": place / "index-pages" / "session_empty.html",
        "index": place / "index.html",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_nothing_sticks_out_and_nothing_goes_wrong(
    browser: Browser, pages: dict[str, Path], kind: str, width: int
) -> None:
    browser.open(pages[kind], width=width)
    assert browser.value("window.innerWidth") == width
    assert browser.value("document.querySelectorAll('section').length") >= 2
    browser.value("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.overflowing() == []
    assert browser.complaints() == []
    assert browser.requests() == [pages[kind].as_uri()]
    assert browser.value("document.scripts.length") == 0


def test_no_figure_beside_a_key_is_broken_in_two(browser: Browser, pages: dict[str, Path]) -> None:
    """As those of an hour would be: they do not fit into one line of a phone."""
    browser.open(pages["made of a recording"], width=390)
    lines = browser.value(
        """[...document.querySelectorAll('.strip small')].map(small =>
            ['2,013 × ·', '4.8 %'].map((text, number) => {
                small.children[number].textContent = text;
                return small.children[number];
            }).map(part => {
                const range = document.createRange();
                range.selectNodeContents(part);
                return range.getClientRects().length;
            }))"""
    )
    assert lines
    assert all(counts == [1, 1] for counts in lines)


def test_what_sticks_out_is_found(browser: Browser, tmp_path: Path) -> None:
    """The test above can fail."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body><div style='width:2000px'>wide</div><script>console.error('x')</script>"
        "<img src='http://127.0.0.1:9/x.png'>"
    )
    browser.open(page, width=390)
    assert any(text.startswith("DIV.") for text in browser.overflowing())
    assert any("console" in text for text in map(str, browser.events))
    assert "http://127.0.0.1:9/x.png" in browser.requests()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(
    browser: Browser, pages: dict[str, Path], kind: str, dark: bool
) -> None:
    browser.open(pages[kind], width=390, dark=dark)
    lightness = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, lightness[4:-1].split(","))) < 60) == dark
    faint = [(ratio, text) for ratio, text in browser.contrasts() if ratio < 4.5]  # WCAG 2, AA
    assert faint == []


def test_pictures_are_decoded_and_drawn_upon(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["made of a recording"], width=1280)
    shown = browser.value("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(shown) >= 4
    assert all(width == 128 and alt.startswith("Frame ") for width, alt in shown)
    assert browser.value("document.querySelectorAll('.screen .arrow').length") >= 3
    assert browser.value("document.querySelectorAll('kbd.held').length") >= 4


def test_the_index_leads_to_the_pages(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["index"], width=1280)
    links = browser.value("[...document.querySelectorAll('td a, th a')].map(link => link.href)")
    assert sorted(links) == sorted(pages[kind].as_uri() for kind in KINDS[:3])


def test_every_chart_has_words(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"], width=1280)
    silent = "svg:not([aria-label]):not([aria-hidden]), img:not([alt])"
    assert browser.value(f"document.querySelectorAll({silent!r}).length") == 0
    assert browser.value("document.querySelectorAll('svg[role=img]').length") > 10
    assert (
        browser.value("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)[0]") == "H1"
    )
