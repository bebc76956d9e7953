"""Named roots: the folders that recordings lie under, so that a path means one thing everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from playmill.errors import MissingStream, UsageError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class RootedPath:
    """A place that every host can find: the name of a root, and a relative path under it."""

    root: str
    path: str
    """POSIX, relative, without "..": e.g. "2026-11/session-7"."""

    def __str__(self) -> str:
        return f"{self.root}:{self.path}"


@dataclass(frozen=True, slots=True)
class Roots:
    """The named folders that this host may read recordings from."""

    folders: Mapping[str, Path]

    @classmethod
    def parse(cls, text: str) -> Roots:
        """Read the form `name=/folder,name=/folder`; raise UsageError where it is anything else."""
        folders: dict[str, Path] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, equals, folder = item.partition("=")
            if not equals or not _NAME.fullmatch(name) or not Path(folder).is_absolute():
                raise UsageError(
                    f"root {item!r} is not of the form name=/absolute/folder"
                    " (names: letters, digits, - and _)"
                )
            if name in folders:
                raise UsageError(f"root {name!r} is named twice")
            folders[name] = Path(folder)
        return cls(folders)

    @classmethod
    def whole_machine(cls) -> Roots:
        """Return the roots of work that stays on one machine: `local`, its file system."""
        return cls({"local": Path("/")})

    def locate(self, path: Path) -> RootedPath:
        """Name `path` by the innermost root that holds it; raise UsageError where none does."""
        resolved = path.resolve()
        candidates = [
            (len(folder.resolve().parts), name, folder.resolve())
            for name, folder in self.folders.items()
            if resolved.is_relative_to(folder.resolve())
        ]
        if not candidates:
            known = ", ".join(f"{name}={folder}" for name, folder in self.folders.items())
            raise UsageError(
                f"{path} lies under none of the roots ({known or 'none are set'});"
                " add its folder to PLAYMILL_ROOTS on every host"
            )
        _, name, folder = max(candidates)
        return RootedPath(name, resolved.relative_to(folder).as_posix())

    def resolve(self, place: RootedPath) -> Path:
        """Return where `place` lies on this host.

        Raises:
            MissingStream: the root is unknown here, or the path leaves it (by "..", by being
                absolute, or through a symbolic link).
        """
        folder = self.folders.get(place.root)
        if folder is None:
            raise MissingStream(
                str(place),
                "",
                f"root {place.root!r}, which this host does not know",
                f"one of {sorted(self.folders)}",
                "Add it to PLAYMILL_ROOTS on this host.",
            )
        relative = PurePosixPath(place.path)
        try:
            resolved = (folder / relative).resolve()
            inside = resolved.is_relative_to(folder.resolve())
        except (RuntimeError, ValueError):  # links in a circle; a NUL in the name
            resolved, inside = folder, False
        if relative.is_absolute() or ".." in relative.parts or not inside:
            raise MissingStream(
                str(place),
                "",
                "a path that leaves its root",
                f"a place under {folder}",
                "Move the recording under a root, or add a root for where it lies.",
            )
        return resolved
