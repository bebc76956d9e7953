"""Put the index of a folder of datasets together."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from playmill.alignment.warnings import lacks_frames
from playmill.report import document, figures, sections, tables
from playmill.report.folder import Entry, Failure, Unreadable
from playmill.report.markup import Markup, escape, join, prose, tag
from playmill.report.tables import Section

MAX_FAILURES = 200
_HOUR_US = 3_600_000_000
STORE_UNKNOWN = (
    "Not known: the mill's store is not in this folder. Name it with `--store DIR` to list the"
    " recordings that failed."
)


def page(
    title: str,
    entries: Sequence[Entry],
    unreadable: Sequence[Unreadable],
    failed: Sequence[Failure] | None,
    links: Mapping[Path, str],
) -> str:
    """Return the index as an HTML document.

    Args:
        title: name of the folder.
        entries: the datasets.
        unreadable: files in datasets' places that are none.
        failed: recordings that failed; None: nobody knows.
        links: address of each dataset's page, relative to the index.
    """
    body = (
        _games(entries),
        _gates(entries),
        _sessions(entries, links),
        _unreadable(unreadable),
        _failures(failed),
    )
    head = _head(title, entries, unreadable, failed)
    return document.document(
        f"Datasets in {title}",
        join((head, tables.linked(body))),
        marker=document.INDEX_PAGE,
    )


def _head(
    title: str,
    entries: Sequence[Entry],
    unreadable: Sequence[Unreadable],
    failed: Sequence[Failure] | None,
) -> Markup:
    troubled = sum(entry.troubled for entry in entries)
    marks = [
        tag("span", text, class_=f"mark {kind}")
        for number, text, kind in (
            (troubled, f"{figures.plural(troubled, 'session')} to look at", "bad"),
            (len(unreadable), f"{figures.count(len(unreadable))} unreadable", "bad"),
            (len(failed or ()), f"{figures.count(len(failed or ()))} failed", "bad"),
        )
        if number
    ]
    return tag(
        "header",
        tag("p", "Playmill datasets", class_="muted"),
        tag("h1", escape(title, limit=300)),
        tag("p", *(join((mark, " ")) for mark in marks)) if marks else None,
        tables.facts(
            (
                ("Sessions", figures.count(len(entries))),
                ("Length", figures.duration(sum(entry.length_us for entry in entries))),
                ("Frames", figures.count(sum(entry.frames for entry in entries))),
                ("Events", figures.count(sum(entry.events for entry in entries))),
            )
        ),
    )


def _games(entries: Sequence[Entry]) -> Section | None:
    by_game: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_game[entry.game].append(entry)
    if not by_game:
        return None
    rows = [
        (
            escape(game, limit=200),
            f"{len(group):,}",
            f"{sum(entry.length_us for entry in group) / _HOUR_US:,.2f}",
            f"{sum(entry.frames for entry in group):,}",
            f"{sum(entry.events for entry in group):,}",
            _share(sum(entry.unassigned for entry in group), sum(e.events for e in group)),
            f"{sum(entry.troubled for entry in group):,}",
        )
        for game, group in sorted(
            by_game.items(), key=lambda item: -sum(entry.length_us for entry in item[1])
        )
    ]
    heads = ("Game", "Sessions", "Hours", "Frames", "Events", "Without a frame", "To look at")
    table = tables.table(heads, rows, numeric=range(1, 7))
    return tables.section("Games", table, id_="games")


def _share(part: int, whole: int) -> str:
    return figures.percent(part / whole) if whole else "no events"


def _gates(entries: Sequence[Entry]) -> Section | None:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry in entries:
        for gate in entry.gates:
            counts[gate.gate][{True: 0, False: 1, None: 2}[gate.passed]] += 1
    if not counts:
        return None
    rows = [(gate, *(f"{number:,}" for number in counts[gate])) for gate in sorted(counts)]
    heads = ("Gate", "Passed", "Failed", "Not checked")
    return tables.section("Gates", tables.table(heads, rows, numeric=(1, 2, 3)), id_="gates")


def _sessions(entries: Sequence[Entry], links: Mapping[Path, str]) -> Section:
    if not entries:
        text = tag("p", "No dataset in this folder can be read.", class_="notice")
        return tables.section("Sessions", text, id_="sessions")
    ordered = sorted(entries, key=lambda entry: (not entry.troubled, entry.game, entry.session_id))
    heads = ["Session", "Game", "Length", "Frames", "Events", "Event to frame, p95", "State"]
    rows = [_session(entry, links[entry.path]) for entry in ordered]
    # Datasets of older versions do not say their lag.
    if any(entry.lag for entry in ordered):
        heads.insert(6, "Lag")
        for row, entry in zip(rows, ordered, strict=True):
            row.insert(6, _lag(entry))
    table = tables.table(heads, rows, numeric=range(2, len(heads) - 1))
    return tables.section("Sessions", table, id_="sessions")


def _session(entry: Entry, link: str) -> list[object]:
    return [
        tag("a", escape(entry.session_id, limit=200), href=quote(os.fsencode(link))),
        escape(entry.game, limit=200),
        figures.duration(entry.length_us),
        f"{entry.frames:,}",
        f"{entry.events:,}",
        figures.ms(entry.p95_ms) if entry.events else "no events",
        _state(entry),
    ]


def _lag(entry: Entry) -> str:
    if entry.lag is None or not entry.lag.confident:
        return "unknown"
    return figures.ms(entry.lag.lag_ms)


def _state(entry: Entry) -> Markup:
    marks: list[Markup | None] = []
    if entry.gates:
        no = f"{figures.plural(entry.failed_gates, 'gate')} failed"
        marks.append(tables.verdict(not entry.failed_gates, yes="gates passed", no=no))
    if lacks_frames(entry.coverage):
        marks.append(sections.coverage(entry.coverage))
    if entry.has_few_valid:
        marks.append(sections.few_valid(entry.frames, entry.valid))
    if entry.conserved is False:
        marks.append(sections.audit(entry.conserved))
    if entry.warnings:
        warned = figures.plural(entry.warnings, "warning")
        marks.append(tag("span", warned, class_="mark warn"))
    return join(join((mark, " ")) for mark in marks) or Markup("no warnings")


def _unreadable(unreadable: Sequence[Unreadable]) -> Section | None:
    if not unreadable:
        return None
    rows = [(str(entry.path), escape(entry.why, limit=1000)) for entry in unreadable]
    table = tables.table(("File", "Why it cannot be read"), rows)
    return tables.section("Unreadable files", table, id_="unreadable")


def _failures(failed: Sequence[Failure] | None) -> Section:
    if failed is None:
        text = tag("p", prose(STORE_UNKNOWN), class_="muted")
        return tables.section("Failed recordings", text, id_="failures")
    if not failed:
        return tables.section("Failed recordings", tag("p", "None."), id_="failures")
    rows = [
        (
            escape(failure.recording, limit=300),
            escape(failure.why, limit=1000),
            figures.date(round(failure.failed_s * 1e6)) if failure.failed_s else "",
        )
        for failure in failed[:MAX_FAILURES]
    ]
    rest = len(failed) - len(rows)
    more = tag("p", f"and {rest:,} more", class_="muted") if rest > 0 else None
    table = tables.table(("Recording", "Why", "When"), rows)
    return tables.section("Failed recordings", table, more, id_="failures")
