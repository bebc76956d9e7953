"""Build HTML out of text that may be anybody's. What is not `Markup` is escaped, always."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

MAX_TEXT = 4000
"""Characters of one piece of text; the rest is cut off and counted."""
_CODE = re.compile("`([^`]*)`")
_VOID = frozenset(("img", "meta", "br"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object, *, limit: int = MAX_TEXT, lines: bool = False) -> Markup:
    """Return `value` as HTML text that shows it, and can be nothing else.

    Characters that cannot be printed (control characters, marks that turn the direction of
    writing, lone surrogates) are written as escapes, so that a name looks like what it is.

    Args:
        limit: characters after which the text is cut off.
        lines: keep line ends.
    """
    if isinstance(value, Markup):
        return value
    text = str(value)
    rest = len(text) - limit
    if rest > 0:
        text = f"{text[:limit]} ... ({rest} more characters)"
    return Markup(html.escape("".join(_shown(char, lines) for char in text)))


def _shown(char: str, lines: bool) -> str:
    if char.isprintable() or (lines and char == "\n"):
        return char
    return char.encode("unicode_escape").decode()


def prose(text: str) -> Markup:
    """Return a sentence as HTML, with what stands between backquotes as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", escape(text)))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return one element; children and values of attributes are escaped.

    Args:
        name: the element.
        children: text, `Markup`, or None for nothing.
        attributes: `class_` is class, `aria_label` is aria-label; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Return all of `children`, one after the other; None is nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))
