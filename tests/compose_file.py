"""docker-compose.yml as data, with its variables filled in the way Docker Compose does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?P<form>:-|:\?)(?P<text>[^}]*)\}|\$\w*")


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with `variables` in place of ${NAME:-default} and ${NAME:?message}."""
    value = yaml.safe_load((PROJECT / "docker-compose.yml").read_text(encoding="utf-8"))
    filled = _fill(value, variables)
    assert isinstance(filled, dict)
    return filled


def _fill(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, variables) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _expand(found, variables), value)
    return value


def _expand(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    name, form, text = found["name"], found["form"], found["text"]
    if name is None:
        raise ValueError(f"{found[0]!r} is no form that the file uses: ${{NAME:-default}}")
    if variables.get(name):
        return variables[name]
    if form == ":?":
        raise KeyError(f"{name}: {text}")
    return text


def container_path(mount: str) -> str:
    """Return the path inside the container of a volume `source:target[:mode]`."""
    return mount.split(":")[1]
