"""What a person wants to know about a dataset, on one screen. Reads labels, never features."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from playmill import schema
from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError
from playmill.phrases import labelled, plural, shown_path

MAX_NAMES = 12
"""Keys and buttons that `describe` lists, the most pressed first."""
MAX_WARNINGS = 8


def as_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `describe` shows as a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is no dataset, or is damaged.
    """
    with open_dataset(path) as dataset:
        try:
            return _about(dataset)
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            problem = f"cannot be read: {error}. `playmill verify` says what is wrong with it"
            raise DatasetError(str(path), problem) from error


def _about(dataset: Dataset) -> dict[str, Any]:
    return {
        "file": str(dataset.path),
        "bytes": dataset.path.stat().st_size,
        "schema_version": int(dataset.h5.attrs["schema_version"]),
        "session_id": dataset.session_id,
        "dataset_key": dataset.dataset_key,
        "clock": dataset.clock,
        "frames": _frames(dataset),
        "features": [_features(dataset, key) for key in dataset.feature_keys],
        "images": list(dataset.images.shape) if dataset.has_images else None,
        "inputs": _inputs(dataset),
        "sync": {
            name: _plain(value)
            for name, value in dataset.h5["/sync"].attrs.items()
            if name != "report"
        },
        "keys": _presses(dataset, dataset.key_names, "key_presses"),
        "w3c_codes": dict(zip(dataset.key_names, dataset.w3c_codes, strict=True)),
        "buttons": _presses(dataset, dataset.button_names, "button_presses"),
        "axes": list(dataset.axis_names),
        "masks": _masks(dataset),
        "report": dataset.report,
        "provenance": dataset.provenance,
        "warnings": dataset.warnings,
    }


def _frames(dataset: Dataset) -> dict[str, Any]:
    times, flags = dataset.timestamps_us, dataset.flags
    intervals = np.diff(times)
    span_us = int(times[-1]) - int(times[0])
    return {
        "count": len(dataset),
        "first_us": int(times[0]),
        "last_us": int(times[-1]),
        "fps": round(1e6 * len(intervals) / span_us, 3) if span_us else None,
        "median_interval_us": float(np.median(intervals)) if len(intervals) else None,
        "longest_gap_us": int(intervals.max()) if len(intervals) else None,
        "valid": int(np.count_nonzero(dataset.actions("valid"))),
        "flags": {
            name: int(np.count_nonzero(flags & schema.frame_flag(name)))
            for name in schema.FRAME_FLAGS
        },
    }


def _features(dataset: Dataset, key: str) -> dict[str, Any]:
    node = dataset.features(key)
    attrs = {name: _plain(node.attrs.get(name)) for name in schema.FEATURE_ATTRS}
    return {"key": key, "dim": int(node.shape[1]), **attrs}


def _inputs(dataset: Dataset) -> dict[str, Any]:
    counts = np.bincount(dataset.array("/inputs/kind"), minlength=1)
    kinds = dataset.names("/inputs/kind")
    return {
        "events": len(dataset.array("/inputs/timestamp_us")),
        "by_kind": {kinds[kind]: int(counts[kind]) for kind in np.flatnonzero(counts)},
        "rejected_lines": int(dataset.h5["/inputs/rejected_line"].attrs["total"]),
    }


def _presses(dataset: Dataset, names: tuple[str, ...], array: str) -> dict[str, int]:
    presses = dataset.actions(array).sum(axis=0, dtype=np.int64)
    order = np.argsort(-presses, kind="stable")
    return {names[column]: int(presses[column]) for column in order}


def _masks(dataset: Dataset) -> dict[str, int]:
    counts = dataset.actions("masks").sum(axis=0, dtype=np.int64).tolist()
    return dict(zip(dataset.mask_names, counts, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isinf(value) else value


def describe(path: str | os.PathLike[str]) -> str:
    """Return a page of text about the dataset file `path`. Raises as `as_json` does."""
    return "\n".join(f"{name:<12}{_printable(text)}" for name, text in _lines(as_json(path)))


def in_short(about: dict[str, Any]) -> str:
    """Return the line for a dataset in a list, from `as_json`'s object."""
    frames, sync, warned = about["frames"], about["sync"], len(about["warnings"])
    seconds = (frames["last_us"] - frames["first_us"]) / 1e6
    return _printable(
        f"{shown_path(about['file'])}: {plural(frames['count'], 'frame')}, {seconds:,.1f} s,"
        f" {plural(about['inputs']['events'], 'event')} ({sync['unassigned']:,} unassigned)"
        + (f", {plural(warned, 'warning')}" if warned else "")
    )


def _printable(text: str) -> str:
    """Escape what would move the cursor or end the line: names and warnings hold other's text."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    frames, inputs, sync = about["frames"], about["inputs"], about["sync"]
    window_ms = sync["window_ms"]
    window = "none" if window_ms is None else f"{window_ms:g} ms"
    video = about["provenance"].get("video", {})
    lines = [
        ("file", f"{about['file']}  ({about['bytes'] / 1e6:,.1f} MB)"),
        ("session", f"{about['session_id']}  (clock {about['clock']})"),
        ("frames", _frames_line(frames)),
        ("", _flags_line(frames)),
        *(("features", _features_line(entry)) for entry in about["features"]),
        *([("images", " x ".join(map(str, about["images"])))] if about["images"] else []),
        ("inputs", _inputs_line(inputs)),
        ("sync", f"policy {sync['policy']}, window {window}, latency {sync['latency_ms']:g} ms"),
        ("", f"{plural(sync['assigned'], 'event')} assigned, {sync['unassigned']:,} unassigned"),
        ("", _ignored_line(sync)),
        ("keys", _presses_line(about["keys"], about["w3c_codes"])),
        ("buttons", _presses_line(about["buttons"], {})),
        *([("axes", ", ".join(about["axes"]))] if about["axes"] else []),
        *([("masks", _masks_line(about["masks"]))] if about["masks"] else []),
        *_report_lines(about["report"]),
        ("video", _video_line(video)),
        ("made by", f"playmill {about['provenance'].get('playmill', 'of unknown version')}"),
        ("key", about["dataset_key"]),
        *(labelled(warning).partition(": ")[::2] for warning in about["warnings"][:MAX_WARNINGS]),
    ]
    if len(about["warnings"]) > MAX_WARNINGS:
        lines.append(("warning", f"... and {len(about['warnings']) - MAX_WARNINGS} more"))
    return lines


def _frames_line(frames: dict[str, Any]) -> str:
    seconds = (frames["last_us"] - frames["first_us"]) / 1e6
    text = f"{frames['count']:,} in {seconds:,.3f} s"
    if not frames["fps"]:
        return text
    return (
        f"{text}, {frames['fps']:g} frames/s;"
        f" {frames['median_interval_us'] / 1000:g} ms from one to the next (median; longest"
        f" {frames['longest_gap_us'] / 1000:g} ms)"
    )


def _flags_line(frames: dict[str, Any]) -> str:
    flags = [f"{count:,} {name}" for name, count in frames["flags"].items() if count]
    return ", ".join([f"{frames['valid']:,} valid", *flags])


def _features_line(entry: dict[str, Any]) -> str:
    weights = str(entry["weights_digest"])[:12]
    arithmetic = f"{entry['precision']} by {entry['runtime']}"
    return f"{entry['key']}: {entry['dim']} x float16, {arithmetic}, weights {weights}"


def _inputs_line(inputs: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in inputs["by_kind"].items())
    rejected = inputs["rejected_lines"]
    return (
        plural(inputs["events"], "event")
        + (f": {kinds}" if kinds else "")
        + (f"; {plural(rejected, 'line')} rejected" if rejected else "")
    )


def _ignored_line(sync: dict[str, Any]) -> str:
    return (
        f"{plural(sync['duplicates'], 'duplicate line')},"
        f" {plural(sync['auto_repeats'], 'auto-repeat')},"
        f" {plural(sync['orphan_releases'], 'orphan release')}"
    )


def _presses_line(presses: dict[str, int], codes: dict[str, str]) -> str:
    shown = [
        f"{_named(name, codes.get(name, ''))} {count:,}"
        for name, count in list(presses.items())[:MAX_NAMES]
    ]
    rest = len(presses) - len(shown)
    return ", ".join([*shown, *([f"... {rest} more"] if rest else [])]) or "none"


def _named(name: str, code: str) -> str:
    """Return a key's name, with its code where it is the number of a virtual key."""
    return f"{name} ({code})" if code and name.isdecimal() and code != f"Digit{name}" else name


def _masks_line(masks: dict[str, int]) -> str:
    return ", ".join(f"{name} {plural(count, 'frame')}" for name, count in masks.items())


def _report_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the alignment's quality."""
    lines = []
    distance, clock, lag = (
        report.get(name) for name in ("event_frame_distance_ms", "clock", "lag")
    )
    if distance:
        lines.append(
            f"events {distance['p50']:g} ms from their frames (median; p95 {distance['p95']:g}, max"
            f" {distance['max']:g}), coverage {report['coverage'] or 0:.1%}"
        )
    outside = report.get("outside")
    if outside and any(outside.values()):
        lines.append(
            f"{plural(outside['before_first_frame'], 'event')} before the first frame,"
            f" {outside['after_last_frame']:,} after the last, by their times; those near enough"
            " are assigned all the same"
        )
    if clock:
        residual = clock["residual_ms"]
        lines.append(
            f"clock by {clock['source']}: {plural(clock['samples'], 'sample')}, drift"
            f" {clock['drift_ppm']:+.1f} ppm, residual {residual['p50']:g} ms (median; p95"
            f" {residual['p95']:g}, max {residual['max']:g})"
        )
        lines += clock["findings"]
    if lag:
        sure = "confident" if lag["confident"] else "not confident"
        lines.append(f"lag by the pictures {lag['lag_ms']:+g} ms ({sure})")
    for gate in report.get("gates", ()):
        if gate["value"] is None:
            lines.append(f"gate {gate['gate']} is not checked: {gate['why']}")
        else:
            lines.append(f"gate {gate['gate']}: {gate['value']:.6g}")
    return [("alignment" if not place else "", line) for place, line in enumerate(lines)]


def _video_line(video: dict[str, Any]) -> str:
    size = f", {video['width']}x{video['height']}" if "width" in video else ""
    codec = f", {video['codec']}" if "codec" in video else ""
    return f"{video.get('name', '?')}{codec}{size}, sha256 {str(video.get('digest', ''))[:12]}"
