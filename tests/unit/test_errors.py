"""Every error survives the way between processes, and says what a person needs."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator

import pytest

from playmill import errors
from playmill.errors import EncoderError, PlaymillError, RecordingError


def tree(root: type[PlaymillError]) -> Iterator[type[PlaymillError]]:
    """Yield a class and all below it that this package defines."""
    if root.__module__ == errors.__name__:
        yield root
    for below in root.__subclasses__():
        yield from tree(below)


CLASSES = sorted(set(tree(PlaymillError)), key=lambda cls: cls.__name__)


def make(cls: type[PlaymillError]) -> PlaymillError:
    """Build an error whose arguments are the names of its parameters."""
    if "__init__" not in vars(cls) and not issubclass(cls, RecordingError | EncoderError):
        return cls("a sentence")
    return cls(*list(inspect.signature(cls.__init__).parameters)[1:])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling_with_its_values(cls: type[PlaymillError]) -> None:
    error = make(cls)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_message_holds_every_argument(cls: type[PlaymillError]) -> None:
    error = make(cls)
    for value in error.args:
        assert str(value) in str(error)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_a_docstring_of_its_own(cls: type[PlaymillError]) -> None:
    assert vars(cls)["__doc__"]


def test_the_tree_in_the_module_docstring_is_the_tree() -> None:
    named = {word for word in (errors.__doc__ or "").split() if word in vars(errors)}
    assert named == {cls.__name__ for cls in CLASSES}


def test_a_recording_error_names_file_place_found_expected_and_action() -> None:
    error = RecordingError("a/session.json", "video.file", "5", "a name", "Mend it.")
    assert str(error) == "a/session.json: video.file: found 5; expected a name. Mend it."


def test_a_recording_error_without_a_place_names_the_file_alone() -> None:
    error = RecordingError("a/session.json", "", "5", "a name", "Mend it.")
    assert str(error) == "a/session.json: found 5; expected a name. Mend it."


def test_an_impossible_argument_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="choose one of"):
        raise errors.UsageError("choose one of a, b")
