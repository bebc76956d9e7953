"""Draw the busy moments of a session: pictures with what was held, and a strip of time below."""

from __future__ import annotations

import numpy as np

from playmill.dataset import Dataset
from playmill.report import charts, figures, moment_strips, strips
from playmill.report.markup import Markup, escape, join, tag
from playmill.report.moments import Moment
from playmill.report.pictures import Pictures

MAX_CAPS = 12
"""Keys and buttons named under one picture."""


class ContactSheet:
    """Draws moments of one dataset."""

    def __init__(self, dataset: Dataset, pictures: Pictures) -> None:
        self._dataset, self._pictures = dataset, pictures
        self._times = dataset.timestamps_us
        speed = np.abs(dataset.actions("mouse")).max(axis=1, initial=0)
        moving = speed[speed > 0]
        self._fast = float(np.percentile(moving, 95)) if len(moving) else 1.0
        self._ratio = _ratio(dataset)

    def moment(self, moment: Moment, number: int) -> Markup:
        """Return one moment as a figure."""
        at = figures.clock_time(moment.middle_us - int(self._times[0]))
        presses = figures.plural(moment.presses, "press", "presses")
        return tag(
            "figure",
            tag(
                "figcaption",
                tag("h3", f"Moment {number}, at {at}"),
                tag("p", f"{presses} in this strip{self._left_out(moment)}", class_="muted"),
            ),
            tag(
                "ol",
                *(self._picture(moment, frame, n) for n, frame in enumerate(moment.pictures, 1)),
                class_="pictures",
            ),
            moment_strips.draw(moment, zero_us=int(self._times[0])),
            class_="moment card",
        )

    @staticmethod
    def _left_out(moment: Moment) -> str:
        rest = moment.num_used - len(moment.strips)
        return f"; {rest} more keys and buttons are not drawn" if rest else ""

    # ---- one picture ----------------------------------------------------------------------------

    def _picture(self, moment: Moment, frame: int, number: int) -> Markup:
        held, tapped = self._down(frame)
        dx, dy = (float(value) for value in self._dataset.actions("mouse")[frame])
        motion = self._motion(frame, dx, dy)
        at = figures.clock_time(int(self._times[frame]) - int(self._times[0]))
        what = ", ".join([*held, *(f"{name} (tapped)" for name in tapped)]) or "nothing"
        uri = self._pictures.uri(frame)
        screen: Markup | None = None
        if uri is not None:
            alt = f"Frame {frame} at {at}; down: {what}; {motion or 'mouse at rest'}"
            screen = tag(
                "div",
                tag("img", src=uri, alt=alt, style=f"aspect-ratio:{self._ratio}"),
                charts.arrow(*self._direction(dx, dy)) if dx or dy else None,
                class_="screen",
            )
        elif self._pictures.jpegs:
            screen = tag("div", "no picture of this frame", class_="screen absent")
        return tag(
            "li",
            screen,
            tag(
                "div",
                tag("span", number, class_="number"),
                " ",
                tag("b", at),
                " ",
                tag("span", f"frame {frame:,}", class_="muted"),
                class_="when",
            ),
            tag("div", self._caps(held, tapped), class_="caps"),
            tag("div", motion, class_="muted") if motion else None,
        )

    def _down(self, frame: int) -> tuple[list[str], list[str]]:
        """Return what is held at a frame, and what is down only for a part of its span."""
        held, tapped = [], []
        for one, names in (("keys", self._dataset.key_names), ("buttons", self._button_names())):
            now = self._dataset.h5[f"/actions/{one}"][frame]
            ever = self._dataset.h5[f"/actions/{one}_any"][frame]
            held += [name for name, down in zip(names, now, strict=True) if down]
            tapped += [n for n, d, any_ in zip(names, now, ever, strict=True) if any_ and not d]
        return held, tapped

    def _button_names(self) -> list[str]:
        """Return the buttons' names so that "left" is not taken for a key."""
        return [f"{name} button" for name in self._dataset.button_names]

    def _caps(self, held: list[str], tapped: list[str]) -> Markup:
        caps = [_cap(name, "held") for name in held[:MAX_CAPS]]
        caps += [_cap(name, "tapped") for name in tapped[: MAX_CAPS - len(caps)]]
        rest = len(held) + len(tapped) - len(caps)
        if rest:
            caps.append(tag("span", f"and {rest} more", class_="muted"))
        return join(caps) or tag("span", "no key or button down", class_="muted")

    def _motion(self, frame: int, dx: float, dy: float) -> str:
        parts = [f"mouse {figures.signed(dx)}, {figures.signed(dy)}"] if dx or dy else []
        x, y = (float(value) for value in self._dataset.actions("scroll")[frame])
        parts += [f"scroll {figures.signed(x)}, {figures.signed(y)}"] if x or y else []
        return "; ".join(parts)

    def _direction(self, dx: float, dy: float) -> tuple[float, float]:
        """Return an arrow's tip: as long as the picture's half for a fast move, never too short."""
        size = max(abs(dx), abs(dy))
        length = 0.25 + 0.75 * min(size / self._fast, 1.0)
        return dx / size * length, dy / size * length


def _cap(name: str, how: str) -> Markup:
    return tag("kbd", escape(name, limit=strips.MAX_NAME), class_=how)


def _ratio(dataset: Dataset) -> str:
    """Return the video's width / height: a stored picture may have been squeezed into a square."""
    video = dataset.provenance.get("video")
    sides = [video.get(side) for side in ("width", "height")] if isinstance(video, dict) else []
    if len(sides) == 2 and all(type(side) is int and 0 < side < 1 << 16 for side in sides):
        return f"{sides[0]}/{sides[1]}"
    if dataset.has_images:
        height, width = dataset.images.shape[1:3]
        return f"{width}/{height}"
    return "auto"
