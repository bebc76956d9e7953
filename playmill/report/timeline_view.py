"""Draw the timeline of a whole session."""

from __future__ import annotations

from collections.abc import Sequence

from playmill.report import charts, figures, strips
from playmill.report.markup import Markup, join, tag
from playmill.report.timeline import Bins, Held, Timeline

TICKS = 5
FLAG_WORDS = {
    "damaged": "damaged pictures",
    "pts_repaired": "times made up",
    "duplicate_picture": "repeated pictures",
    "black": "black pictures",
    "frozen": "frozen picture",
}


def draw(timeline: Timeline) -> Markup:
    """Return the timeline's rows, group by group, over one axis."""
    return join(
        (
            strips.group(
                *_trouble(timeline),
                *_held(timeline.keys, "key"),
                *_held(timeline.buttons, "button"),
                *_moved(timeline),
                strips.axis(*figures.axis_times(timeline.length_us, TICKS)),
            ),
            _left_out(timeline),
        )
    )


def _trouble(timeline: Timeline) -> list[Markup]:
    rows = [
        _share("gaps", timeline.gap, "bad", f"{len(timeline.gaps)} gaps"),
        _share("not valid", timeline.invalid, "warn", "frames with valid = 0"),
        *(
            _share(FLAG_WORDS.get(name, name), bins, "warn", name)
            for name, bins in timeline.flags.items()
        ),
        _height("lost events", timeline.unassigned, "bad", "events that belong to no frame"),
    ]
    return [row for row in rows if row is not None]


def _held(rows: Sequence[Held], kind: str) -> list[Markup]:
    return [
        strips.row(
            held.name if kind == "key" else f"{held.name} button",
            charts.svg(
                charts.shades(held.bins, class_=kind),
                label=f"{kind} {held.name}: down {figures.percent(held.share)} of the time,"
                f" {held.presses} presses",
                class_="row",
            ),
            detail=join(
                (
                    tag("span", f"{held.presses:,} × ·"),
                    " ",
                    tag("span", figures.percent(held.share)),
                )
            ),
        )
        for held in rows
    ]


def _moved(timeline: Timeline) -> list[Markup]:
    rows = [
        _height("mouse", timeline.mouse, "mouse", "sum of |dx| + |dy|"),
        _height("scroll", timeline.scroll, "mouse", "sum of wheel steps"),
        *(_height(name, bins, "axis", "mean of |value|") for name, bins in timeline.axes),
    ]
    return [row for row in rows if row is not None]


def _share(name: str, bins: Bins, class_: str, what: str) -> Markup | None:
    if not bins.any():
        return None
    picture = charts.svg(
        charts.shades(bins, class_=class_), label=f"{name}: {what}", class_="row thin-row"
    )
    return strips.row(name, picture)


def _height(name: str, bins: Bins, class_: str, what: str) -> Markup | None:
    if not bins.any():
        return None
    label = f"{name}: {what}, at most {bins.max():,.4g} in a bin"
    picture = charts.svg(charts.columns(bins, class_=class_), label=label, class_="row tall")
    return strips.row(name, picture)


def _left_out(timeline: Timeline) -> Markup | None:
    parts = [
        f"{all_ - len(shown)} more {nouns}"
        for all_, shown, nouns in (
            (timeline.num_keys, timeline.keys, "keys"),
            (timeline.num_buttons, timeline.buttons, "buttons"),
        )
        if all_ > len(shown)
    ]
    return tag("p", f"Not drawn: {', '.join(parts)}.", class_="muted") if parts else None
