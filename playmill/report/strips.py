"""Rows of charts over one common axis of time, with their names as text beside them."""

from __future__ import annotations

from playmill.report.markup import Markup, escape, tag

MAX_NAME = 40
"""Characters of a key's name."""


def row(name: str, chart: Markup, *, detail: Markup | None = None) -> Markup:
    """Return one named chart."""
    small = tag("small", detail) if detail else None
    shown = tag("span", escape(name, limit=MAX_NAME))
    return tag("div", tag("span", shown, small, class_="name"), chart, class_="strip")


def axis(*labels: str) -> Markup:
    """Return labels, spread evenly under the charts."""
    ticks = tag("div", *(tag("span", label) for label in labels), class_="ticks")
    return tag("div", tag("span", class_="name"), ticks, class_="strip axis", aria_hidden="true")


def group(*rows: Markup | None) -> Markup:
    """Return rows with one axis."""
    return tag("div", *rows, class_="strips")


def scale(*labels: str) -> Markup:
    """Return labels, spread evenly under one chart of full width."""
    return tag("div", *(tag("span", label) for label in labels), class_="ticks", aria_hidden="true")
