"""nightly(): submit what is new in the inboxes, once for each nominal time, and report on it."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path

from playmill import failpoints
from playmill.command.options import SIZES, resolve_device
from playmill.config import PipelineConfig
from playmill.encoders import check_name
from playmill.errors import UsageError
from playmill.nights import nightly as nights
from playmill.nights.inbox import look
from playmill.nights.report import NightReport
from playmill.store import Store
from playmill.store.identity import check_datasets
from tasks.app import app, settings
from tasks.settings import PREFIX, Settings
from tasks.submit import make_request
from tasks.waiting import Waiting

log = logging.getLogger(__name__)

SO_FAR_S = 600.0
"""Pause between two reports of a run that goes on."""
TICK_S = 20.0
"""Pause between two looks at the clock by beat."""

_reported_s: dict[str, float] = {}
"""When this process last reported on each run that goes on, by the clock of ticks."""


@app.task(name="playmill.nightly")
def nightly() -> None:
    """Tick by message, for schedulers other than `playmill beat`."""
    tick(Store(settings().store), settings(), now_s=time.time())


def tick(store: Store, chosen: Settings, *, now_s: float) -> None:
    """Do what is to be done at this moment: usually nothing.

    Any number of processes may do this at once, and any of them may be killed. `reconcile` sends
    what is submitted here.
    """
    # Before anybody looks into the inboxes: what an earlier run claimed is that run's to submit.
    go_on(store, chosen, now_s=now_s)
    crontab = chosen.crontab
    nominal_s = None if crontab is None else nights.due(store, crontab, now_s=now_s)
    if nominal_s is not None:
        begin(store, chosen, nominal_s=nominal_s, now_s=now_s)


def go_on(store: Store, chosen: Settings, *, now_s: float) -> None:
    """Submit what runs that were interrupted have left, and write the reports of those that ended.

    Of those that go on, what has become of them is written from time to time.

    Raises:
        UsageError: this is not the store's datasets folder.
        OSError: store or datasets folder cannot be written; the next tick tries again.
    """
    check_datasets(store.root, chosen.datasets)
    for night in nights.open_nights(store):
        nights.submit(store, night)
        report = finish(store, night, datasets=chosen.datasets, now_s=now_s)
        if report is None and now_s >= _reported_s.get(night.name, night.started_s) + SO_FAR_S:
            _reported_s[night.name] = now_s
            report_so_far(store, night, chosen, now_s=now_s)


def report_so_far(
    store: Store, night: nights.Night, chosen: Settings, *, now_s: float
) -> NightReport:
    """Write what has become of a run so far, and why recordings wait that nobody can do."""
    waiting = Waiting(store)
    report = nights.report_so_far(
        store,
        night,
        datasets=chosen.datasets,
        why=lambda job_id: waiting.note(store.facts(job_id, running=waiting.running)),
        now_s=now_s,
    )
    for line in waiting.lines():
        log.warning("nightly run %s: %s", night.name, line, extra={"action": "nightly"})
    return report


def begin(store: Store, chosen: Settings, *, nominal_s: int, now_s: float) -> nights.Night:
    """Look through the inboxes, claim the nominal time, submit; return the run that counts.

    Raises:
        UsageError: no inbox is set, or the configuration of nightly runs cannot be used.
    """
    if not chosen.inbox:
        raise UsageError(f"{PREFIX}INBOX is not set; name the folders that are to be searched")
    config = read_config(chosen, store)
    findings = look(
        chosen.inbox,
        make_request=lambda path: make_request(
            path, config, chosen.roots, submission_ns=round(now_s * 1e9)
        ),
        is_known=partial(nights.is_known, store),
        now_s=now_s,
        settle_s=chosen.settle_s,
        skip=[chosen.datasets],
    )
    found = nights.Night.of(findings, nominal_s=nominal_s, started_s=now_s)
    failpoints.reached("nightly:before-claim")
    night = nights.claim(store, found)
    failpoints.reached("nightly:claimed")
    nights.submit(store, night)
    log.info(
        "nightly run %s: %d submitted, %d left for another night",
        night.name,
        len(night.requests),
        len(night.skipped),
        extra={"action": "nightly"},
    )
    return night


def finish(
    store: Store, night: nights.Night, *, datasets: Path, now_s: float
) -> NightReport | None:
    """Write a run's report if all its jobs have ended; None: some have not."""
    report = nights.finish(store, night, datasets=datasets, now_s=now_s)
    if report is not None:
        log.log(
            logging.WARNING if report.troubled else logging.INFO,
            "nightly run %s: %s",
            night.name,
            "; ".join(line.rstrip(".") for line in report.text().splitlines()),
            extra={"action": "nightly"},
        )
    return report


def read_config(chosen: Settings, store: Store) -> PipelineConfig:
    """Return the configuration of nightly runs: that of `playmill submit` without options.

    PLAYMILL_NIGHTLY_CONFIG, if set, names a JSON object with PipelineConfig values that differ.

    Raises:
        UsageError: the file cannot be read, or a value in it is impossible.
    """
    values: dict[str, object] = {"device_class": resolve_device(chosen.device)}
    path = chosen.nightly_config
    if path is None:
        return _config(values)
    try:
        given = json.loads(path.read_bytes())
        if not isinstance(given, dict):
            raise UsageError("it holds no JSON object")
        config = _config(values | given)
        check_name(config.encoder)
        store.weights(config.weights_digest)
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise UsageError(f"{PREFIX}NIGHTLY_CONFIG: {path}: {error}") from error
    return config


def _config(values: dict[str, object]) -> PipelineConfig:
    sizes = SIZES["cuda" if values["device_class"] == "cuda" else "cpu"]
    return PipelineConfig.from_json(sizes | values)
