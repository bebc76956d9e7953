"""The frame of every page: one HTML document that needs nothing but itself."""

from __future__ import annotations

import re

from playmill import __version__
from playmill.report.markup import Markup, escape, tag
from playmill.report.style import STYLE

GENERATOR = "playmill report"
DOCTYPE = "<!DOCTYPE html>\n"
SESSION_PAGE, INDEX_PAGE = "session", "index"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'"

_START = re.compile(
    f'{DOCTYPE}<html lang="en"><head><meta charset="utf-8">'
    f'<meta name="generator" content="({GENERATOR} [^"]*)">'
)


def document(title: str, body: Markup, *, marker: str, key: str = "") -> str:
    """Return a whole HTML document; it may load nothing and run nothing.

    Args:
        title: what the browser shows as its name.
        body: what stands in it.
        marker: which kind of page it is: `SESSION_PAGE` or `INDEX_PAGE`.
        key: what it was made of; an equal key means an equal page.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=generator(marker, key)),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", escape(title, limit=200)),
        tag("style", Markup(STYLE)),
    )
    foot = tag("footer", f"Made by playmill {__version__}.", class_="muted")
    page = tag("html", head, tag("body", tag("main", body, foot)), lang="en")
    return f"{DOCTYPE}{page}\n"


def made_as(start: str) -> str | None:
    """Return what a file says of its making by its first characters; None: it is no page."""
    found = _START.match(start)
    return found[1] if found else None


def generator(marker: str, key: str) -> str:
    """Return what a page says of its making."""
    return f"{GENERATOR} {__version__} {marker} {key}".strip()
