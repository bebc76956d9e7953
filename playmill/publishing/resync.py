"""Give the events of a published dataset to its frames anew, by other rules. Needs no recording.

Everything that is needed lies in the dataset: events as they were logged, frame times, features.
What comes out is byte for byte what the mill would publish with the other options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from math import isinf
from pathlib import Path
from typing import Any

import numpy as np

from playmill.alignment import gates
from playmill.command.verify_process import verify_apart
from playmill.config import LINE_POLICY, PipelineConfig
from playmill.dataset import Dataset, open_dataset
from playmill.encoders import feature_key
from playmill.errors import DatasetError, PlaymillError, UsageError
from playmill.faults import in_words
from playmill.manifest import dataset_key
from playmill.publishing.content import FeatureBlocks, ImageBlocks
from playmill.publishing.labels import FrameTable, Session, label
from playmill.reading.row_reader import blocks
from playmill.reading.stored_events import whole_events
from playmill.recording import check_policy
from playmill.storage import DataStorage, stored_features

_PROVENANCE_FACTS = ("parts_key", "session_digest", "log_digest", "sides_digest", "reader")
"""What a dataset's key is made of and its provenance holds; see `manifest.dataset_key`."""

Change = Callable[[PipelineConfig], PipelineConfig]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """By which the events of a dataset were given to its frames, as the file says."""

    policy: str
    window_ms: float | None
    """None: unbounded."""
    latency_ms: float
    lag_shown: bool | None
    """Whether the pictures show a lag, which then is the latency; None: it is not `auto`."""

    def __str__(self) -> str:
        """Return them as words for people."""
        window = "none" if self.window_ms is None else f"{self.window_ms:g} ms"
        told = {None: "", True: " (auto)", False: " (auto: the pictures do not show the lag)"}
        return (
            f"policy {self.policy}, window {window}, latency {self.latency_ms:g} ms"
            f"{told[self.lag_shown]}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Resynced:
    """What became of one dataset."""

    dataset: Path
    changed: bool
    """Whether the file was replaced. False: it was so already, was passed over, or failed."""
    anew: bool = False
    """Whether its events are given to frames by other rules than before."""
    rules: Rules | None = None
    """That it has now; None: it failed, or was passed over."""
    assigned: int | None = None
    unassigned: int | None = None
    warnings: tuple[str, ...] = ()
    """Of its alignment."""
    skipped: str | None = None
    """Why it was passed over: the options make no sense for it. None: it was not."""
    error: str | None = None
    """Why nothing changed; None where all went well."""

    def __str__(self) -> str:
        """Return it as a line for people, and one for each warning."""
        if self.error is not None:
            return f"{self.dataset}: failed: {self.error}"
        if self.skipped is not None:
            return f"{self.dataset}: passed over: {self.skipped}"
        noted = " (the new options are noted)" if self.changed else ""
        what = "synchronized anew" if self.anew else f"unchanged{noted}"
        line = (
            f"{self.dataset}: {what}: {self.rules}; {self.assigned} events assigned,"
            f" {self.unassigned} not"
        )
        return "\n  warning: ".join((line, *self.warnings))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with every key."""
        rules = dict.fromkeys(spec.name for spec in fields(Rules)) | (
            asdict(self.rules) if self.rules else {}
        )
        own = asdict(self) | {"dataset": str(self.dataset)}
        del own["rules"]
        return own | rules


def resync_all(paths: Iterable[Path], change: Change) -> Iterator[Resynced]:
    """Resync one dataset after the other; one that fails does not stop the others.

    One for which `change` makes no sense is passed over.
    """
    for path in paths:
        try:
            check_change(path, change)
            key, rules = _state(path)
            resync(path, change)
            new_key, new_rules = _state(path)
            with open_dataset(path) as dataset:
                attrs = dataset.h5["/sync"].attrs
                yield Resynced(
                    dataset=path,
                    changed=new_key != key,
                    anew=_rule(new_rules) != _rule(rules),
                    rules=new_rules,
                    assigned=int(attrs["assigned"]),
                    unassigned=int(attrs["unassigned"]),
                    warnings=tuple(dataset.report.get("warnings", ())),
                )
        except UsageError as error:
            reason = str(error).removeprefix(f"{path}: ")
            yield Resynced(dataset=path, changed=False, skipped=reason)
        except OSError as error:
            yield Resynced(dataset=path, changed=False, error=in_words(error))
        except (PlaymillError, KeyError, RuntimeError) as error:
            yield Resynced(dataset=path, changed=False, error=str(error))


def check_change(path: Path, change: Change) -> None:
    """Raise UsageError if `change` makes no sense for the dataset `path`.

    One that cannot be read is left to `resync`, which says what is wrong with it.
    """
    with suppress(DatasetError, OSError), open_dataset(path) as dataset:
        _changed(dataset, change)


def _state(path: Path) -> tuple[str, Rules]:
    with open_dataset(path) as dataset:
        attrs, config = dataset.h5["/sync"].attrs, dataset.provenance.get("config") or {}
        window_ms, lag = float(attrs["window_ms"]), dataset.report.get("lag") or {}
        rules = Rules(
            policy=str(attrs["policy"]),
            window_ms=None if isinf(window_ms) else window_ms,
            latency_ms=float(attrs["latency_ms"]),
            lag_shown=bool(lag.get("applied")) if config.get("auto_latency") else None,
        )
        return dataset.dataset_key, rules


def _rule(rules: Rules) -> tuple[str, float | None, float]:
    return rules.policy, rules.window_ms, rules.latency_ms


def _key(path: Path) -> str:
    with open_dataset(path) as dataset:
        return dataset.dataset_key


def resync(path: Path, change: Change) -> Path:
    """Publish `path` anew with its events given to frames by other rules; return it.

    Nothing changes if the rules are those that it has, or if this fails.

    Args:
        path: a dataset file that the mill, or `pipeline.run`, has published.
        change: makes the new configuration out of the one that the dataset was made with; may
            change what `PipelineConfig.labelling` names, but for `keep_text` and `trim_stop_chord`,
            which decide what the log is read as.
    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is no sound dataset, or does not hold what is needed.
        UsageError: the rules make no sense for its log.
        RecordingError: by the new rules it must not be published.
    """
    problems = verify_apart(path)
    if problems:
        raise DatasetError(str(path), f"is not sound: {problems[0]}")
    with open_dataset(path) as dataset:
        config = _changed(dataset, change)
        content = label(_session(dataset, config), _frames(dataset), whole_events(dataset), config)
        failure = gates.failed(str(path), content.report)
        if failure is not None:
            raise failure
        storage = DataStorage(path.parent.parent)
        if storage.path(dataset.session_id).resolve() != path.resolve():
            raise DatasetError(
                str(path),
                f"lies where session {dataset.session_id!r} does not belong; put it back to"
                f" {storage.path(dataset.session_id)}",
            )
        return storage.write(
            content,
            features=[_own_features(dataset, config)],
            images=_images(dataset),
            # Whatever was published in the meantime is newer than what was read here.
            claim=lambda: _key(path) == dataset.dataset_key,
        )


def _changed(dataset: Dataset, change: Change) -> PipelineConfig:
    provenance = dataset.provenance
    missing = [name for name in ("config", *_PROVENANCE_FACTS) if name not in provenance]
    if missing or dataset.motion is None:
        raise DatasetError(
            str(dataset.path),
            f"cannot be synchronized anew: its provenance lacks {', '.join(missing) or 'motion'};"
            " only datasets of the mill can, and of this version",
        )
    old = PipelineConfig.from_json(provenance["config"])
    try:
        new = change(old)
    except UsageError as error:
        raise UsageError(f"{dataset.path}: {error}") from error
    if old.policy == LINE_POLICY and (new.window_us != old.window_us):
        raise UsageError(f"{dataset.path}: policy 'line' gives line i to frame i; it has no window")
    check_policy(dataset.path, provenance["reader"], new.policy)
    return new


def _session(dataset: Dataset, config: PipelineConfig) -> Session:
    provenance = dict(dataset.provenance) | {"config": config.to_json()}
    facts = {
        "session_id": dataset.session_id,
        "clock": dataset.clock,
        "pts_zero_us": dataset.pts_zero_us,
        **{name: provenance[name] for name in _PROVENANCE_FACTS},
    }
    # What was said of the old alignment stands at the end, and is said anew.
    num_warnings = len(dataset.warnings) - len(dataset.report["warnings"])
    return Session(
        session_id=dataset.session_id,
        dataset_key=dataset_key(config, facts),
        clock=dataset.clock,
        metadata=dataset.metadata,
        provenance=provenance,
        warnings=tuple(dataset.warnings[:num_warnings]),
        time_base=dataset.time_base,
        pts_zero_us=dataset.pts_zero_us,
        clock_report=dataset.report["clock"],
        log=str(dataset.path) if provenance["reader"] else None,
    )


def _frames(dataset: Dataset) -> FrameTable:
    return FrameTable(
        pts=dataset.pts,
        timestamp_us=dataset.timestamps_us,
        flags=dataset.flags,
        motion=np.asarray(dataset.motion[...], np.float16),
    )


def _own_features(dataset: Dataset, config: PipelineConfig) -> FeatureBlocks:
    """Return the features that the dataset's key names; those of others are carried over."""
    key = feature_key(config.encoder, config.weights_digest)
    return stored_features(dataset.features(key), key)


def _images(dataset: Dataset) -> ImageBlocks | None:
    if not dataset.has_images:
        return None
    height, width = dataset.images.shape[1:3]
    return ImageBlocks(size=(height, width), blocks=blocks(dataset.images))
