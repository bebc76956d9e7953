"""The `playmill` command: what a dataset's reader needs, and the mill's verbs where the mill is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ImportError:  # the library was installed without its dependencies
    sys.exit("playmill: the command needs typer and rich: pip install playmill")

from playmill import __version__
from playmill.errors import DatasetError, PlaymillError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="""Turn recorded game-play into synchronized HDF5 datasets of features.

    \b
    playmill run recordings/ --datasets datasets/       a folder of recordings, on this machine
    playmill plan recordings/                           what that would do
    playmill inspect datasets/session_ID/data.h5        a dataset on one screen
    """,
)

MILL_VERBS = ("run", "submit", "status", "retry", "cancel", "reconcile", "worker", "beat")
NO_MILL = (
    "playmill: this command needs the mill, which runs from a checkout: clone the project and"
    " `make setup` there, or use its image"
)


def main() -> None:
    """Run the command; a PlaymillError becomes one line on stderr and an exit status."""
    _add_mill_verbs()
    try:
        app()
    except UsageError as error:
        print(f"playmill: {error}", file=sys.stderr)
        sys.exit(2)
    except PlaymillError as error:
        print(f"playmill: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more to say, and no way to say it.
        sys.stderr.close()
        sys.exit(1)


def _add_mill_verbs() -> None:
    """Add the queue's verbs if `workers` lies beside this package and can be loaded."""
    beside = Path(__file__).resolve().parent.parent
    if (beside / "workers" / "commands.py").is_file():
        if str(beside) not in sys.path:
            sys.path.insert(0, str(beside))
        try:
            commands = importlib.import_module("workers.commands")
        except ImportError as error:
            _stand_in(f"{NO_MILL} ({error})")
            return
        commands.add_to(app)
        return
    _stand_in(NO_MILL)


def _stand_in(message: str) -> None:
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    for verb in MILL_VERBS:

        @app.command(verb, context_settings=anything, hidden=True)
        def refuse() -> None:
            print(message, file=sys.stderr)
            raise typer.Exit(2)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def inspect(
    file: Path,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a dataset on one screen."""
    from playmill import inspection

    try:
        if as_json:
            print(json.dumps(inspection.as_json(file), ensure_ascii=False))
        else:
            print(inspection.describe(file))
    except (DatasetError, OSError) as error:
        raise UsageError(str(error)) from error


@app.command()
def verify(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check every promise of the format; exit status 1 if one is broken."""
    from playmill.verify import verify as problems_of

    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"{missing[0]}: there is no such file")
    broken = False
    for file in files:
        problems = problems_of(file)
        broken = broken or bool(problems)
        print(f"{file}: {'broken' if problems else 'ok'}")
        for problem in problems:
            print(f"  {problem}")
    if broken:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
