"""A path means one thing on every host, and never leaves its root."""

from __future__ import annotations

from pathlib import Path

import pytest

from playmill.errors import MissingStream, UsageError
from playmill.roots import RootedPath, Roots


def test_roots_are_parsed_from_names_and_folders() -> None:
    roots = Roots.parse(" nas=/mnt/nas , inbox=/srv/in=box,")
    assert roots.folders == {"nas": Path("/mnt/nas"), "inbox": Path("/srv/in=box")}


def test_no_text_means_no_roots() -> None:
    assert Roots.parse("").folders == {}


@pytest.mark.parametrize(
    "text",
    ["/mnt/nas", "nas=", "nas=relative", "=/mnt", "na s=/mnt", "n/a=/mnt", "nas:/mnt", "ä=/mnt"],
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not of the form name=/absolute/folder"):
        Roots.parse(text)


def test_a_name_is_given_once() -> None:
    with pytest.raises(UsageError, match="root 'a' is named twice"):
        Roots.parse("a=/x,a=/y")


def test_a_path_is_located_by_the_innermost_root(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "session").mkdir(parents=True)
    roots = Roots({"outer": tmp_path, "inner": inner})
    assert roots.locate(inner / "session") == RootedPath("inner", "session")
    assert roots.locate(tmp_path) == RootedPath("outer", ".")


@pytest.mark.parametrize("name", ["a b", "ünïcödé – 録画", "it's", "-x", "%41", '"', "a:b", "a\nb"])
def test_names_are_data(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    roots = Roots({"root": tmp_path})
    place = roots.locate(tmp_path / name)
    assert place.path == name
    assert roots.resolve(place) == (tmp_path / name).resolve()


def test_the_same_place_lies_elsewhere_on_another_host(tmp_path: Path) -> None:
    here, there = Roots({"nas": tmp_path / "a"}), Roots({"nas": tmp_path / "b"})
    place = here.locate(tmp_path / "a" / "x" / "y")
    assert there.resolve(place) == (tmp_path / "b" / "x" / "y").resolve()


def test_a_path_outside_all_roots_is_a_usage_error(tmp_path: Path) -> None:
    roots = Roots({"nas": tmp_path / "nas"})
    with pytest.raises(UsageError, match=r"lies under none of the roots \(nas=.*PLAYMILL_ROOTS"):
        roots.locate(tmp_path / "elsewhere")


def test_a_link_out_of_a_root_is_not_located_under_it(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    (tmp_path / "nas" / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="lies under none of the roots"):
        Roots({"nas": tmp_path / "nas"}).locate(tmp_path / "nas" / "link" / "x")


def test_a_root_that_is_a_link_holds_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk" / "x").mkdir(parents=True)
    (tmp_path / "nas").symlink_to(tmp_path / "disk")
    roots = Roots({"nas": tmp_path / "nas"})
    assert roots.resolve(roots.locate(tmp_path / "nas" / "x")) == tmp_path / "disk" / "x"


@pytest.mark.parametrize(
    "path",
    ["..", "../other", "a/../../other", "/etc/passwd", "a/../b", "out", "out/x", "loop", "\0"],
)
def test_no_path_leaves_its_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(MissingStream, match="found a path that leaves its root; expected a place"):
        Roots({"nas": root}).resolve(RootedPath("nas", path))


def test_an_unknown_root_says_which_are_known() -> None:
    with pytest.raises(MissingStream, match=r"nas:x: found root 'nas', .* one of \['disk'\]"):
        Roots({"disk": Path("/disk")}).resolve(RootedPath("nas", "x"))


def test_the_whole_machine_is_one_root(tmp_path: Path) -> None:
    roots = Roots.whole_machine()
    assert roots.resolve(roots.locate(tmp_path)) == tmp_path.resolve()
