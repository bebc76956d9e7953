"""The blocks that pages are built of: tables, named values, verdicts, sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from playmill.report.markup import Markup, escape, join, tag

MAX_FACT = 300
"""Characters of one named value."""


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Iterable[int] = ()
) -> Markup:
    """Return a table; cells are escaped unless they are `Markup`.

    One of more than two columns becomes a list of named values where the screen is narrow; its
    roles are written down because such a list is no table to a browser any more.

    Args:
        heads: names of the columns; the first column names the row.
        numeric: columns set to the right.
    """
    right = set(numeric)
    head = [
        tag("th", text, scope="col", role="columnheader", class_=_class(column, right))
        for column, text in enumerate(heads)
    ]
    return tag(
        "table",
        tag("thead", tag("tr", *head, role="row"), role="rowgroup"),
        tag("tbody", *(_row(heads, row, right) for row in rows), role="rowgroup"),
        class_="wide" if len(heads) > 2 else None,
        role="table",
    )


def _row(heads: Sequence[str], cells: Sequence[object], right: set[int]) -> Markup:
    first, *others = cells
    rest = [
        tag("td", cell, role="cell", data_label=heads[column], class_=_class(column, right))
        for column, cell in enumerate(others, 1)
    ]
    return tag("tr", tag("th", first, scope="row", role="rowheader"), *rest, role="row")


def _class(column: int, right: set[int]) -> str | None:
    return "number-cell" if column in right else None


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return named values; those that are None are left out."""
    items = [
        tag("div", tag("dt", name), tag("dd", escape(value, limit=MAX_FACT)))
        for name, value in pairs
        if value is not None
    ]
    return tag("dl", *items, class_="facts")


def verdict(passed: bool | None, *, yes: str, no: str, unknown: str = "unknown") -> Markup:
    """Return a mark that says it in words and in colour."""
    if passed is None:
        return tag("span", unknown, class_="mark")
    return tag("span", yes if passed else no, class_="mark good" if passed else "mark bad")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page, that can be linked to."""

    id: str
    title: str
    content: Markup


def section(title: str, *content: object, id_: str, note: str | None = None) -> Section:
    """Return a section with its heading."""
    under = tag("p", note, class_="muted") if note else None
    return Section(id_, title, tag("section", tag("h2", title), under, *content, id=id_))


def linked(sections: Iterable[Section | None]) -> Markup:
    """Return the sections that there are, with links to each of them first."""
    present = [part for part in sections if part is not None]
    links = [tag("a", part.title, href=f"#{part.id}") for part in present]
    nav = tag("nav", *links, aria_label="Sections")
    return join((nav, *(part.content for part in present)))
