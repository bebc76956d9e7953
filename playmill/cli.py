"""The `playmill` command: what a dataset's reader needs, and the mill's verbs where the mill is."""

from __future__ import annotations

import importlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
except ImportError:  # the library was installed without its dependencies
    sys.exit("playmill: the command needs typer and rich: pip install typer rich")

from playmill import __version__
from playmill.command.options import Wanted, takes_config
from playmill.errors import DatasetError, PlaymillError, UsageError
from playmill.faults import in_words

if TYPE_CHECKING:
    from playmill.recording.lone_logs import LoneLog

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

MILL_VERBS = (
    *("run", "submit", "nightly", "status", "watch", "retry", "cancel", "reconcile", "gc"),
    *("worker", "beat"),
)
NO_MILL = (
    "playmill: this command needs the mill, which runs from a checkout: clone the project and"
    " `make setup` there, or use its image"
)


def main() -> None:
    """Run the command; a PlaymillError becomes one line on stderr and an exit status."""
    # Names are data: one that stdout's encoding cannot express is written with escapes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _add_mill_verbs()
    except KeyboardInterrupt:
        sys.exit(130)
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
    except OSError as error:
        print(f"playmill: {in_words(error)}", file=sys.stderr)
        sys.exit(1)


def _add_mill_verbs() -> None:
    """Add the queue's verbs if `workers` lies beside this package and can be loaded."""
    beside = Path(__file__).resolve().parent.parent
    module = beside / "workers" / "commands" / "__init__.py"
    if not (module.is_file() and (beside / "tasks" / "app.py").is_file()):
        _stand_in(NO_MILL)
        return
    # First of all: another package called `workers` may lie on the path.
    sys.path.insert(0, str(beside))
    try:
        commands = importlib.import_module("workers.commands")
    except ImportError as error:
        _stand_in(f"{NO_MILL} ({error})")
        return
    commands.add_to(app)


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
    file: Annotated[Path, typer.Argument(metavar="FILE|FOLDER")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, of a folder a list of them.")
    ] = False,
) -> None:
    """Show a dataset on one screen, or list those of a folder."""
    from playmill.command import inspection

    try:
        if file.is_dir():
            _inspect_all(_inspected(file), as_json=as_json)
            return
        text = json.dumps(inspection.as_json(file)) if as_json else inspection.describe(file)
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file or folder") from None
    except DatasetError as error:
        raise UsageError(str(error)) from error
    print(text)


def _inspect_all(paths: list[Path], *, as_json: bool) -> None:
    """Show those that can be read, a line each; the others are named on stderr."""
    from playmill.command import inspection

    rows, unreadable = [], []
    for path in paths:
        try:
            rows.append(inspection.as_json(path))
        except DatasetError as error:
            unreadable.append(error)
        except OSError as error:
            unreadable.append(DatasetError(str(path), in_words(error)))
    if as_json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(inspection.in_short(row))
    for problem in unreadable:
        print(f"playmill: {problem}", file=sys.stderr)
    if unreadable:
        raise typer.Exit(1)


def _inspected(folder: Path) -> list[Path]:
    """Return the datasets in a folder; raise UsageError, which helps, where there are none."""
    found = _find_datasets(folder)
    if found:
        return found
    from playmill.recording.discovery import discover

    try:
        next(iter(discover([folder])))
    except UsageError:
        raise UsageError(f"{folder}: neither a dataset nor a recording in this folder") from None
    raise UsageError(
        f"{folder}: recordings, no datasets; `playmill plan` looks at recordings,"
        " `playmill run` makes datasets of them"
    )


@app.command()
@takes_config()
def plan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...")],
    wanted: Wanted,
    datasets: Annotated[
        Path | None, typer.Option(help="Folder of datasets that `run` would be given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Say what a run would do, and cost; exit status 1 if a recording would fail.

    Reads videos and logs whole, decodes nothing.
    """
    from playmill.recording.discovery import discover

    lone: list[LoneLog] = []
    found = list(discover(paths, skip=[datasets] if datasets else [], tell=lone.append))
    try:
        from playmill.command import forecast
    except ImportError as error:
        raise UsageError(f"plan needs the extra `extract`: {error}") from error
    rows = forecast.forecast(found, wanted.config, weights=wanted.weights, datasets=datasets)
    rows += map(forecast.Forecast.of_lone_log, lone)
    if as_json:
        print(json.dumps([row.to_json() for row in rows]))
    else:
        for line in forecast.outlook(rows):
            print(line)
        rate = None
        if any(row.frames and not row.published for row in rows):
            rate = forecast.frames_per_second(wanted.config, weights=wanted.weights)
        print(forecast.total(rows, rate))
    if any(row.error is not None for row in rows):
        raise typer.Exit(1)


@app.command()
def formats() -> None:
    """List the formats of input logs that can be read, plug-ins included."""
    from playmill.inputs import readers

    for name, reader in readers().items():
        # A package's reader may say nothing of itself.
        says = (type(reader).__doc__ or "").strip().partition("\n")[0]
        print(f"{name:20} {says}".rstrip())


@app.command()
def encoders() -> None:
    """List the forms of an encoder's name."""
    from playmill.encoders import list_encoders

    for name, meaning in list_encoders().items():
        print(f"{name:24} {meaning}")


def _find_datasets(folder: Path) -> list[Path]:
    """Return the datasets in a folder, which may be that of one session."""
    own = folder / "data.h5"
    return [own] if own.is_file() else sorted(folder.glob("**/session_*/data.h5"))


def _datasets_in(path: Path) -> list[Path]:
    """Return the file, or the datasets in the folder; raise UsageError where there is none."""
    found = _find_datasets(path) if path.is_dir() else [path]
    if not found:
        raise UsageError(f"{path}: no dataset (session_ID/data.h5) in this folder")
    if not found[0].is_file():
        raise UsageError(f"{path}: there is no such file or folder")
    return found


@app.command()
def verify(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check every promise of the format; exit status 1 if one is broken."""
    from playmill.command.verify_process import verify_apart
    from playmill.verify import report_beside

    broken = False
    for path in [path for file in files for path in _datasets_in(file)]:
        problems = verify_apart(path) or report_beside(path)
        broken = broken or bool(problems)
        print(f"{path}: {'broken' if problems else 'ok'}")
        for problem in problems:
            print(f"  {problem}")
    if broken:
        raise typer.Exit(1)


@app.command()
def resync(
    files: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...")],
    policy: Annotated[str | None, typer.Option(help="Rule that gives events to frames.")] = None,
    window_ms: Annotated[
        str | None, typer.Option(help="Farthest an event may lie from its frame, or none.")
    ] = None,
    latency_ms: Annotated[
        str | None, typer.Option(help="Added to event times, or auto: what the pictures show.")
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="Condition on the alignment; replaces those before.")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option(help="JSON file {input name: meaning in the game}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Give the events of published datasets to frames anew; needs neither videos nor a GPU.

    What is not given stays as it was. Datasets in a FOLDER for which the options make no sense
    (--latency-ms for policy line) are passed over.
    """
    from playmill.command.options import read_changes

    paths = [path for file in files for path in _datasets_in(file)]
    change = read_changes(
        policy=policy,
        window_ms=window_ms,
        latency_ms=latency_ms,
        require=require,
        controls=controls,
    )
    try:
        from playmill.publishing.resync import check_change, resync_all
    except ImportError as error:
        raise UsageError(f"resync needs the extra `extract`: {error}") from error
    for file in files:
        if file.is_file():
            check_change(file, change)
    rows = []
    for row in resync_all(paths, change):
        rows.append(row)
        if not as_json:
            print(row)
    if as_json:
        print(json.dumps([row.to_json() for row in rows]))
    if any(row.error is not None for row in rows):
        raise typer.Exit(1)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")],
    video: Annotated[
        Path | None, typer.Option(help="The dataset's video, for pictures it does not store.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="The mill's store; unless told, FOLDER/.playmill.")
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Show pictures of busy moments.")] = True,
) -> None:
    """Write a page to look at: of a dataset, or of a folder with a page for each dataset."""
    from playmill.report import command

    wishes = command.Wishes(video=video, store=store, with_pictures=pictures)
    if not command.write(path, output, wishes, say=print):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
