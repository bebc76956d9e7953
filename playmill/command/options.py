"""The options that make a PipelineConfig, shared by every command that takes one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from playmill.alignment.gates import parse_gate
from playmill.config import (
    BEST_PRECISION,
    DECODERS,
    DEVICE_CLASSES,
    POLICIES,
    PRECISIONS,
    READER_POLICY,
    READER_WINDOW,
    RUNTIMES,
    DeviceClass,
    PipelineConfig,
)
from playmill.errors import UsageError
from playmill.inputs import reader_for

MAX_MS = 10**9
"""Largest time that an option takes: twelve days, more than any recording lasts."""

SIZES: dict[str, dict[str, int]] = {
    "cpu": {"batch_size": 8, "chunk_frames": 1024},
    "cuda": {"batch_size": 64, "chunk_frames": 4096},
}
"""By device class, unless asked otherwise. Frames in one pass: the fastest that was measured, a
guess for CUDA. Frames in one task: some seconds of work, beside which a task's beginning and end,
when the backbone waits, are little; and no more than may be lost with a worker."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options of a command ask for."""

    config: PipelineConfig
    """Without `weights_digest`, which is known once the file is read."""
    weights: Path | None


def parse_ms(text: str, *, option: str, word: str) -> int:
    """Read milliseconds, to the microsecond, as integer microseconds.

    Args:
        option: its name, for messages.
        word: what may be given in place of a number.
    """
    try:
        value = Decimal(text)
        if abs(value) <= MAX_MS and value == round(value, 3):
            return int(value * 1000)
    except ArithmeticError:  # no number, or none that arithmetic can be done with
        pass
    raise UsageError(
        f"{option} is {text!r}; give milliseconds, with at most three decimals and without a unit,"
        f" up to {MAX_MS}, or {word}"
    )


def parse_images(text: str) -> tuple[int, int]:
    """Read HxW."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if not found:
        raise UsageError(f"--images is {text!r}; give height x width, e.g. 128x128")
    return int(found[1]), int(found[2])


def read_controls(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a JSON object of input names and their meanings."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--controls {path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise UsageError(f'--controls {path}: give one object like {{"w": "forward"}}')
    return tuple(sorted(value.items()))


def resolve_device(device: str) -> DeviceClass:
    """Turn auto into the kind of device that this machine has, without importing torch."""
    if device == "auto":
        return "cuda" if Path("/proc/driver/nvidia/gpus").is_dir() else "cpu"
    if device not in DEVICE_CLASSES:
        raise UsageError(f"--device is {device!r}; choose auto, {', '.join(DEVICE_CLASSES)}")
    return device  # type: ignore[return-value]


def read_options(
    encoder: Annotated[
        str, typer.Option(help="Vision backbone; `playmill encoders` lists the forms.")
    ] = "efficientnet_lite0",
    weights: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors, .pth) for the encoder.")
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help=f"Rule that gives events to frames: {', '.join(POLICIES)}.",
            show_default="following, or the log format's own",
        ),
    ] = READER_POLICY,
    window_ms: Annotated[
        str | None,
        typer.Option(help="Farthest an event may lie from its frame, or none.", show_default="100"),
    ] = None,
    latency_ms: Annotated[
        str,
        typer.Option(
            help="Added to event times; positive: effects are seen later. auto: what the pictures"
            " show."
        ),
    ] = "0",
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition on the alignment, like clock_residual_p95<20ms; may be given again.",
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="HxW", help="Also store pictures of this size.")
    ] = None,
    pts_zero_us: Annotated[
        int | None, typer.Option(help="Unix time of pts 0 of a video that does not say it.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of the logs beside bare videos; `playmill formats` lists them.",
            show_default="found by looking",
        ),
    ] = None,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Keep typed text and window titles.")
    ] = False,
    trim_stop_chord: Annotated[
        bool,
        typer.Option(
            "--trim-stop-chord", help="Keep the keys that stopped the recorder out of /actions."
        ),
    ] = False,
    controls: Annotated[
        Path | None,
        typer.Option(help="JSON file {input name: meaning in the game}, beside session.json's."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"Arithmetic of the backbone: {', '.join(PRECISIONS)}.",
            show_default="fp32; the default encoder bf16 where the processor has it",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help=f"What computes the backbone: {', '.join(RUNTIMES)}.",
            show_default="the faster one",
        ),
    ] = None,
    decoder: Annotated[
        str, typer.Option(help=f"What decodes the video: {', '.join(DECODERS)}.")
    ] = "cpu",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Frames in one pass.", show_default="8, on a GPU 64"),
    ] = None,
    chunk_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames in one task, about.", show_default="1024, on a GPU 4096"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> Wanted:
    """Check the options; raise UsageError before anything starts."""
    window_us = READER_WINDOW if window_ms is None else _parse_window(window_ms)
    if weights is not None and not weights.is_file():
        raise UsageError(f"--weights {weights}: there is no such file")
    device_class = resolve_device(device)
    config = PipelineConfig(
        encoder=encoder,
        precision=precision or BEST_PRECISION,  # type: ignore[arg-type]
        runtime=runtime,  # type: ignore[arg-type]
        decoder=decoder,  # type: ignore[arg-type]
        batch_size=batch_size or SIZES[device_class]["batch_size"],
        chunk_frames=chunk_frames or SIZES[device_class]["chunk_frames"],
        device_class=device_class,
        image_size=None if images is None else parse_images(images),
        policy=policy,  # type: ignore[arg-type]
        window_us=window_us,
        latency_us=_parse_latency(latency_ms),
        auto_latency=latency_ms == "auto",
        pts_zero_us=pts_zero_us,
        input_format=format,
        keep_text=keep_text,
        trim_stop_chord=trim_stop_chord,
        require=tuple(str(parse_gate(text)) for text in require or ()),
        controls=() if controls is None else read_controls(controls),
    )
    if format is not None:
        reader_for(format)
    from playmill.encoders import check_name

    check_name(encoder)
    return Wanted(config, weights)


def read_changes(
    *,
    policy: str | None,
    window_ms: str | None,
    latency_ms: str | None,
    require: list[str] | None,
    controls: Path | None,
) -> Callable[[PipelineConfig], PipelineConfig]:
    """Check the options of `resync`; return what changes a configuration by those given."""
    changes: dict[str, Any] = {}
    if policy is not None:
        changes["policy"] = policy
    if window_ms is not None:
        changes["window_us"] = _parse_window(window_ms)
    if latency_ms is not None:
        changes["latency_us"] = _parse_latency(latency_ms)
        changes["auto_latency"] = latency_ms == "auto"
    if require is not None:
        changes["require"] = tuple(str(parse_gate(text)) for text in require)
    if controls is not None:
        changes["controls"] = read_controls(controls)
    if not changes:
        raise UsageError("nothing to change; give --policy, --window-ms, --latency-ms, ...")
    replace(PipelineConfig(window_us=0), **changes)  # says what makes no sense by itself
    return lambda config: replace(config, **changes)


def _parse_window(text: str) -> int | None:
    window_us = None if text == "none" else parse_ms(text, option="--window-ms", word="none")
    if window_us is not None and window_us < 0:
        raise UsageError(f"--window-ms is {text}; it must be 0 or more, or none")
    return window_us


def _parse_latency(text: str) -> int:
    return 0 if text == "auto" else parse_ms(text, option="--latency-ms", word="auto")


def takes_config(
    *, auto_device: Callable[[], str] = lambda: "auto"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `read_options`'s options in place of its parameter `wanted`.

    Args:
        auto_device: what `--device auto` means for the command.
    """
    options = inspect.signature(read_options, eval_str=True)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in options.parameters}
            if chosen["device"] == "auto":
                chosen["device"] = auto_device()
            return command(**values, wanted=read_options(**chosen))

        own = inspect.signature(command, eval_str=True)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own.parameters.values(), *options.parameters.values())
            if parameter.name != "wanted"
        ]
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
        return wrapper

    return decorate
