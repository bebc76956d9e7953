"""Put the page of one dataset together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from playmill import schema
from playmill.dataset import Dataset
from playmill.report import (
    alignment,
    document,
    figures,
    histogram,
    sections,
    tables,
    timeline,
    timeline_view,
)
from playmill.report.alignment import AlignmentReport
from playmill.report.contact_sheet import ContactSheet
from playmill.report.markup import Markup, escape, join, prose, tag
from playmill.report.moments import Moment, choose
from playmill.report.pictures import Pictures, PictureSource
from playmill.report.tables import Section
from playmill.report.timeline import Timeline

SHOWN_WARNINGS, MAX_WARNINGS = 8, 200
MAX_REJECTED = 8
MAX_JSON = 20_000
"""Characters of metadata and of provenance that are shown."""
NO_EVENTS = "The log has no events: a moment out of each part of the session."
LEGEND = (
    "The busiest moment of each part of the session. Filled caps are held when the frame is shown,"
    " outlined ones are down for a part of its span only; the arrow is the mouse's motion in it."
    " In the strips a bar is a key as the dataset has it, frame by frame; a full line is a press as"
    " it was logged, a half one a release."
)


def page(dataset: Dataset, source: PictureSource) -> str:
    """Return the page of `dataset` as an HTML document.

    Raises:
        KeyError, OSError, ValueError, RuntimeError, TypeError: the dataset is damaged.
    """
    report = alignment.read_report(dataset)
    line = timeline.build(dataset)
    moments = choose(dataset, reachable=source.reachable(dataset))
    pictures = source.take(dataset, sorted({n for moment in moments for n in moment.pictures}))
    rule, distances = _rule(dataset), histogram.draw(alignment.distances_us(dataset))
    body = (
        _warnings(dataset.warnings),
        sections.gates(report.gates),
        _timeline(line),
        _contact_sheet(dataset, moments, pictures),
        sections.synchronization(report, rule, distances),
        sections.lag(report.lag),
        sections.clock(report.clock, line),
        sections.gaps(line),
        sections.conservation(report),
        _log(dataset),
        _origin(dataset),
    )
    return document.document(
        dataset.session_id,
        join((_head(dataset, report, line), tables.linked(body))),
        marker=document.SESSION_PAGE,
        key=page_key(dataset, with_pictures=bool(pictures.jpegs)),
    )


def page_key(dataset: Dataset, *, with_pictures: bool) -> str:
    """Return what a page is made of, as far as it can be told before it is made."""
    return f"{dataset.dataset_key} {'pictures' if with_pictures else 'no-pictures'}"


def _head(dataset: Dataset, report: AlignmentReport, line: Timeline) -> Markup:
    game, player = (dataset.metadata.get(name) for name in ("game", "player"))
    started = figures.date(line.start_us) if dataset.clock == "unix_us" else None
    failed = [gate for gate in report.gates if gate.passed is False]
    marks = []
    if report.gates:
        no = f"{figures.plural(len(failed), 'gate')} failed"
        marks.append(tables.verdict(not failed, yes="gates passed", no=no))
    valid = int(np.count_nonzero(dataset.actions("valid")))
    marks += [
        mark
        for mark in (
            sections.coverage(report.coverage),
            sections.few_valid(len(dataset), valid) if report.events else None,
            sections.audit(report.conserved),
        )
        if mark is not None
    ]
    if dataset.warnings:
        warned = figures.plural(len(dataset.warnings), "warning")
        marks.append(tag("span", warned, class_="mark warn"))
    video = dataset.provenance.get("video")
    return tag(
        "header",
        tag("p", "Playmill dataset", class_="muted"),
        tag("h1", escape(dataset.session_id, limit=300)),
        tag("p", *(join((mark, " ")) for mark in marks)) if marks else None,
        tables.facts(
            (
                ("Game", game),
                ("Player", player),
                ("Recorded", started),
                ("Length", figures.duration(line.length_us)),
                ("Frames", _frames(dataset)),
                ("Valid", f"{figures.count(valid)} ({figures.percent(valid / len(dataset))})"),
                ("Events", figures.count(report.events)),
                ("Features", _features(dataset)),
                ("Video", video.get("name") if isinstance(video, dict) else None),
            )
        ),
    )


def _frames(dataset: Dataset) -> str:
    times = dataset.timestamps_us
    span_us = int(times[-1]) - int(times[0])
    rate = f", {1e6 * (len(dataset) - 1) / span_us:.4g} a second" if span_us else ""
    return f"{figures.count(len(dataset))}{rate}"


def _features(dataset: Dataset) -> str:
    entries = [f"{key} ({dataset.features(key).shape[1]})" for key in dataset.feature_keys]
    return ", ".join(entries) or "none"


def _rule(dataset: Dataset) -> str:
    attrs = dataset.h5["/sync"].attrs
    window = float(attrs["window_ms"])
    return (
        f"{attrs['policy']}, window {'none' if np.isinf(window) else figures.ms(window)},"
        f" latency {figures.ms(float(attrs['latency_ms']))}"
    )


def _warnings(warnings: Sequence[str]) -> Section | None:
    if not warnings:
        return None
    items = [tag("li", escape(warning, limit=1000)) for warning in warnings[:MAX_WARNINGS]]
    if len(warnings) > MAX_WARNINGS:
        items.append(tag("li", f"and {len(warnings) - MAX_WARNINGS:,} more"))
    first, others = items[:SHOWN_WARNINGS], items[SHOWN_WARNINGS:]
    shown = tag("ul", *first, class_="warnings")
    more: Markup | None = None
    if others:
        title = f"{len(warnings) - len(first):,} more warnings"
        more = tag("details", tag("summary", title), tag("ul", *others, class_="warnings"))
    return tables.section("Warnings", shown, more, id_="warnings")


def _contact_sheet(dataset: Dataset, moments: Sequence[Moment], pictures: Pictures) -> Section:
    sheet = ContactSheet(dataset, pictures)
    return tables.section(
        "Busy moments",
        tag("p", prose(pictures.note), class_="muted" if pictures.jpegs else "notice"),
        *(sheet.moment(moment, number) for number, moment in enumerate(moments, 1)),
        id_="moments",
        note=LEGEND if len(dataset.array("/sync/frame")) else NO_EVENTS,
    )


def _timeline(line: Timeline) -> Section:
    bin_us = line.length_us / len(line.gap)
    note = (
        f"The whole session in {len(line.gap)} steps of {figures.duration(bin_us)}. The stronger"
        " the colour, the larger the share of a step; beside a key's name how often it was"
        " pressed, and the share of the time that it was held."
    )
    return tables.section("Timeline", timeline_view.draw(line), id_="timeline", note=note)


def _log(dataset: Dataset) -> Section:
    kinds = dataset.names("/inputs/kind")
    counts = np.bincount(dataset.array("/inputs/kind"), minlength=len(kinds)).tolist()
    attrs = dataset.h5["/sync"].attrs
    rejected = int(dataset.h5["/inputs/rejected_line"].attrs["total"])
    ignored = (
        ("Duplicate lines", "duplicates"),
        ("Auto-repeats", "auto_repeats"),
        ("Orphan releases", "orphan_releases"),
    )
    content: list[Markup | None] = [
        tables.facts(
            (
                *((kind, f"{n:,}") for kind, n in zip(kinds, counts, strict=False) if n),
                *((name, figures.count(int(attrs[key]))) for name, key in ignored if key in attrs),
                ("Rejected lines", figures.count(rejected)),
            )
        )
    ]
    if not any(counts):
        content.insert(0, tag("p", "The log has no events.", class_="notice"))
    lines = dataset.h5["/inputs/rejected_line"][:MAX_REJECTED].tolist()
    reasons = dataset.h5["/inputs/rejected_reason"].asstr(errors="replace")[:MAX_REJECTED]
    if lines:
        rows = list(zip(lines, reasons, strict=False))
        content.append(tables.table(("Rejected line", "Why"), rows))
    if rejected > len(lines):
        more = f"Not shown: {figures.plural(rejected - len(lines), 'more rejected line')}."
        content.append(tag("p", more, class_="muted"))
    return tables.section("Input log", *content, id_="log")


def _origin(dataset: Dataset) -> Section:
    return tables.section(
        "Provenance",
        tables.facts(
            (
                ("File", dataset.path.name),
                ("Size", f"{dataset.path.stat().st_size / 1e6:,.1f} MB"),
                ("Schema version", int(dataset.h5.attrs["schema_version"])),
                ("Dataset key", dataset.dataset_key),
                ("Frame flags", _flags(dataset)),
            )
        ),
        _json("Provenance", dataset.provenance),
        _json("Metadata of the recording", dataset.metadata),
        id_="provenance",
    )


def _flags(dataset: Dataset) -> str:
    flags = dataset.flags
    found = {
        name: int(np.count_nonzero(flags & schema.frame_flag(name))) for name in schema.FRAME_FLAGS
    }
    return ", ".join(f"{n:,} {name}" for name, n in found.items() if n) or "none"


def _json(title: str, value: Any) -> Markup:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False), limit=MAX_JSON, lines=True)
    return tag("details", tag("summary", title), tag("pre", text))
