"""The sections of a session's page that tell how good its alignment is."""

from __future__ import annotations

from collections.abc import Sequence

from playmill.alignment.warnings import has_few_valid, lacks_frames
from playmill.report import charts, figures, strips, tables
from playmill.report.alignment import AlignmentReport, Clock, Gate, Lag, Spread
from playmill.report.markup import Markup, escape, join, tag
from playmill.report.tables import Section
from playmill.report.timeline import Timeline

MAX_GAPS = 12
WHY_WORDS = {
    "before_first_frame": "before the first frame",
    "after_last_frame": "after the last frame",
    "in_gap": "in a gap",
    "beyond_window": "farther than the window",
    "between_frames": "between frames, in a gap or beyond the window",
}


def spread(values: Spread) -> str:
    """Return "p50 1 ms, p95 2 ms, max 3 ms"."""
    return (
        f"p50 {figures.ms(values.p50)}, p95 {figures.ms(values.p95)}, max {figures.ms(values.max)}"
    )


def gates(gates: Sequence[Gate]) -> Section | None:
    """Return the gates with their verdicts."""
    if not gates:
        return None
    rows = [
        (
            gate.gate,
            "none" if gate.value is None else f"{gate.value:.6g}",
            tables.verdict(gate.passed, yes="passed", no="failed", unknown="not checked"),
        )
        for gate in gates
    ]
    body = tables.table(("Gate", "Value", "Verdict"), rows, numeric=(1,))
    whys = [
        tag("li", escape(f"{gate.gate} is not checked: {gate.why}", limit=1000))
        for gate in gates
        if gate.passed is None and gate.why is not None
    ]
    return tables.section("Gates", body, tag("ul", *whys) if whys else None, id_="gates")


def coverage(share: float | None) -> Markup | None:
    """Return a mark that says how many events have a frame, in the colour that this deserves."""
    if share is None:
        return None
    text = f"{figures.percent(share)} of events within the video have a frame"
    kind = "good" if share == 1 else "bad" if lacks_frames(share) else "warn"
    return tag("span", text, class_=f"mark {kind}")


def few_valid(frames: int, valid: int) -> Markup | None:
    """Return a mark where hardly a row is valid."""
    if not has_few_valid(frames, valid):
        return None
    text = f"{figures.count(valid)} of {figures.plural(frames, 'row')} valid"
    return tag("span", text, class_="mark bad")


def audit(conserved: bool | None) -> Markup | None:
    """Return a mark with the verdict of the audit, which says nothing of frames."""
    if conserved is None:
        return None
    return tables.verdict(conserved, yes="input counts add up", no="inputs are missing")


def synchronization(report: AlignmentReport, rule: str, histogram: Markup | None) -> Section:
    """Return where the events went, and how far from their frames they lie."""
    why = ", ".join(
        f"{figures.count(number)} {WHY_WORDS.get(name, name)}"
        for name, number in report.unassigned_why.items()
        if number
    )
    lost = figures.count(report.unassigned) + (f": {why}" if why else "")
    known = None
    if not report.stored:
        known = tag(
            "p",
            "This dataset holds no alignment report, so lag, clock, conservation and gates are not"
            " known; what stands here was computed from its arrays.",
            class_="muted",
        )
    return tables.section(
        "Inputs and frames",
        tables.facts(
            (
                ("Rule", rule),
                ("Events", figures.count(report.events)),
                ("With a frame", figures.count(report.assigned)),
                ("Without a frame", lost),
                ("Coverage", _known(report.coverage)),
                ("Time in gaps", _known(report.gap_fraction)),
                ("Event to frame", spread(report.distance_ms) if report.assigned else None),
            )
        ),
        known,
        histogram,
        id_="sync",
    )


def _known(share: float | None) -> str | None:
    return None if share is None else figures.percent(share)


def lag(lag: Lag | None) -> Section | None:
    """Return the lag that the content shows, with the curve it was found on."""
    if lag is None:
        return None
    sure = tables.verdict(lag.confident, yes="confident", no="not confident")
    facts = tables.facts(
        (
            ("Estimated lag", join((figures.ms(lag.lag_ms), " ", sure))),
            ("Confidence", "unknown" if lag.confidence is None else f"{lag.confidence:.3g}"),
            ("Applied", "yes: event times were shifted by it" if lag.applied else "no"),
        )
    )
    note = "How much later than the inputs the picture moves, found by comparing the two."
    return tables.section("Lag", facts, _lag_curve(lag), id_="lag", note=note)


def _lag_curve(lag: Lag) -> Markup | None:
    if len(lag.curve) < 2:
        return None
    xs, ys = [x for x, _ in lag.curve], [y for _, y in lag.curve]
    low, high, bottom, top = xs[0], xs[-1], min(0.0, *ys), max(ys)
    width, height = (high - low) or 1.0, (top - bottom) or 1.0
    here = [0.0] if low <= 0 <= high else []
    found = [lag.lag_ms] if lag.lag_ms is not None and low <= lag.lag_ms <= high else []
    best = max(lag.curve, key=lambda point: point[1])
    picture = charts.svg(
        charts.marks([(x - low) / width * charts.WIDTH for x in here], class_="thin"),
        charts.marks([(x - low) / width * charts.WIDTH for x in found], class_="found"),
        charts.curve(
            [(x - low) / width for x in xs], [(y - bottom) / height for y in ys], class_="curve"
        ),
        label=f"Score over lag from {low:g} to {high:g} ms;"
        f" highest {best[1]:.3g} at {best[0]:g} ms",
        class_="big",
    )
    middle = (low + high) / 2
    legend = "Score by lag; the dashed line marks the estimate, the thin one no lag."
    return tag(
        "div",
        picture,
        strips.scale(figures.ms(low), figures.ms(middle), figures.ms(high)),
        tag("p", legend, class_="muted"),
    )


def clock(clock: Clock | None, timeline: Timeline) -> Section | None:
    """Return how the log's clock fits the video's."""
    if clock is None:
        return None
    steps = None
    if clock.steps:
        rows = [
            (figures.clock_time(at - timeline.start_us), f"{by / 1000:+,.4g} ms")
            for at, by in clock.steps
        ]
        steps = tables.table(("Step at", "By"), rows, numeric=(1,))
    drift = None if clock.drift_ppm is None else f"{clock.drift_ppm:+.4g} ppm"
    zero = None if clock.offset_us is None else figures.clock_offset(clock.offset_us)
    return tables.section(
        "Clock fit",
        tables.facts(
            (
                ("Compared with", clock.source),
                ("Log's clock when the video's shows 0", zero),
                ("Drift", drift),
                ("Samples", figures.count(clock.samples)),
                ("Residuals", spread(clock.residual_ms)),
            )
        ),
        tag("ul", *(tag("li", finding) for finding in clock.findings)) if clock.findings else None,
        steps,
        id_="clock",
    )


def gaps(timeline: Timeline) -> Section:
    """Return the longest stretches without pictures."""
    if not timeline.gaps:
        text = "None: no pause between frames is much longer than usual."
        return tables.section("Gaps", tag("p", text), id_="gaps")
    total = sum(gap.length_us for gap in timeline.gaps)
    longest = sorted(timeline.gaps, key=lambda gap: -gap.length_us)[:MAX_GAPS]
    rows = [
        (figures.clock_time(gap.at_us), figures.duration(gap.length_us))
        for gap in sorted(longest, key=lambda gap: gap.at_us)
    ]
    number = "One gap" if len(timeline.gaps) == 1 else f"{len(timeline.gaps):,} gaps"
    note = f"{number}, {figures.duration(total)} without pictures in all."
    if len(timeline.gaps) > MAX_GAPS:
        note += f" The {MAX_GAPS} longest:"
    return tables.section(
        "Gaps", tables.table(("At", "Length"), rows, numeric=(1,)), id_="gaps", note=note
    )


def conservation(report: AlignmentReport) -> Section | None:
    """Return the audit: what the log has is in the dataset or counted as without a frame."""
    if report.conserved is None and not report.sums:
        return None
    rows = [
        (
            entry.name.replace("_", " "),
            *(figures.count(value) for value in (entry.log, entry.dataset, entry.unassigned)),
        )
        for entry in report.sums
    ]
    heads = ("What", "In the log", "In the dataset", "Without a frame")
    verdict = tables.verdict(report.conserved, yes="holds", no="does not hold")
    return tables.section(
        "Conservation",
        tag(
            "p",
            "Every input of the log is in a row of /actions or counted as without a frame: ",
            verdict,
        ),
        tables.table(heads, rows, numeric=(1, 2, 3)) if rows else None,
        id_="conservation",
    )
