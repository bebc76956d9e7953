"""Text of other people can be nothing but text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playmill.report.markup import MAX_TEXT, Markup, escape, join, prose, tag
from tests.unit.report_samples import EVIL, Outline


@given(st.text())
def test_any_text_is_shown_and_is_no_markup(text: str) -> None:
    page = tag("p", tag("b", text, title=text), text)
    found = Outline(page)
    shown = str(escape(text, limit=10**6))
    assert found.names() == {"p", "b"}
    assert Outline(tag("p", Markup(shown))).text == found.words[-1] if text else not found.words
    page.encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1))
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    found = Outline(tag("p", text, title=text))
    assert found.words == [text]
    assert found.values("title") == [text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", r"a\u202eb"),
        ("a\x00\x1b[2J", r"a\x00\x1b[2J"),
        ("\udc80", r"\udc80"),
        ("line\nbreak", r"line\nbreak"),
        ("'\"<>&", "&#x27;&quot;&lt;&gt;&amp;"),
    ],
)
def test_what_cannot_be_printed_is_written_as_an_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_long_text_is_cut_and_the_rest_counted() -> None:
    assert escape("x" * (MAX_TEXT + 7)) == "x" * MAX_TEXT + " ... (7 more characters)"
    assert escape("abc", limit=2) == "ab ... (1 more characters)"


def test_lines_stay_where_they_are_wanted() -> None:
    assert escape("a\nb", lines=True) == "a\nb"


def test_markup_is_not_escaped_again() -> None:
    assert tag("p", tag("b", "<")) == "<p><b>&lt;</b></p>"
    assert join((None, "<", Markup("<br>"), 3)) == "&lt;<br>3"


def test_attributes_without_a_value_are_left_out() -> None:
    assert tag("img", alt="", title=None, class_="a b") == '<img alt="" class="a b">'
    assert tag("meta", name="x", http_equiv="y") == '<meta name="x" http-equiv="y">'


def test_code_in_a_sentence_is_marked_and_still_escaped() -> None:
    assert prose("say `<b>` twice") == "say <code>&lt;b&gt;</code> twice"
    assert Outline(tag("p", prose(f"`{EVIL}`"))).names() == {"p", "code"}
