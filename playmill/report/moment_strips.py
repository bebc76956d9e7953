"""Draw a moment's time, frame by frame: what was held, when it was logged, the mouse's motion."""

from __future__ import annotations

from playmill.report import charts, figures, strips
from playmill.report.markup import Markup
from playmill.report.moments import Moment, Strip


def draw(moment: Moment, *, zero_us: int) -> Markup:
    """Return the rows of a moment; `zero_us` is the time of the session's first frame."""
    start, stop = moment.edges_us[0], moment.edges_us[-1]
    places = (start, (start + stop) // 2, stop)
    return strips.group(
        _frames(moment),
        *(_key(moment, strip) for strip in moment.strips),
        _mouse(moment),
        strips.axis(*(figures.clock_time(us - zero_us) for us in places)),
    )


def _x(moment: Moment, us: int) -> float:
    start, stop = moment.edges_us[0], moment.edges_us[-1]
    return (us - start) / max(stop - start, 1) * charts.WIDTH


def _frame_x(moment: Moment, frame: int) -> float:
    """Return where a frame begins; for the one after the last, where that ends."""
    return _x(moment, moment.edges_us[frame - moment.first])


def _frames(moment: Moment) -> Markup:
    shown = [
        (_frame_x(moment, frame), _frame_x(moment, frame + 1))
        for frame in moment.pictures
        if moment.first <= frame < moment.stop
    ]
    chart = charts.svg(
        charts.bars(shown, class_="accent"),
        charts.marks([_x(moment, us) for us in moment.edges_us[:-1]], class_="thin"),
        label=f"{len(moment.mouse)} frames; those shown above are filled",
        class_="row",
    )
    return strips.row("frames", chart)


def _key(moment: Moment, strip: Strip) -> Markup:
    chart = charts.svg(
        charts.bars(
            [(_frame_x(moment, first), _frame_x(moment, stop)) for first, stop in strip.down],
            class_="key shade4",
        ),
        charts.marks([_x(moment, us) for us in strip.releases_us], class_="up", top=50),
        charts.marks([_x(moment, us) for us in strip.presses_us], class_="down"),
        label=f"{strip.name}: down in {figures.plural(len(strip.down), 'stretch', 'stretches')},"
        f" {figures.plural(len(strip.presses_us), 'press', 'presses')} and"
        f" {figures.plural(len(strip.releases_us), 'release')} logged",
        class_="row",
    )
    return strips.row(strip.name, chart)


def _mouse(moment: Moment) -> Markup | None:
    if not any(moment.mouse):
        return None
    spans = [
        (_x(moment, start), _x(moment, stop), value)
        for start, stop, value in zip(
            moment.edges_us[:-1], moment.edges_us[1:], moment.mouse, strict=True
        )
    ]
    label = f"mouse: at most {max(moment.mouse):,.4g} a frame"
    chart = charts.svg(charts.blocks(spans, class_="mouse"), label=label, class_="row tall")
    return strips.row("mouse", chart)
