"""Settings: where things run. Read from the environment, here and nowhere else.

Nothing here changes the bytes of a dataset; what does is `playmill.config.PipelineConfig`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from playmill.errors import UsageError
from playmill.failpoints import Failpoint
from playmill.nights.crontab import Crontab
from playmill.roots import Roots

PREFIX = "PLAYMILL_"
REQUIRED = ("BROKER_URL", "STORE", "DATASETS", "ROOTS")
MAX_THREADS = 64
"""More threads FFmpeg warns of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One deployment, as one process sees it."""

    broker_url: str = field(repr=False)
    """Redis, as Celery writes it: redis://, rediss:// or redis+socket://."""
    store: Path
    """Folder of requests, parts and markers, shared by all hosts."""
    datasets: Path
    """Folder of published datasets, shared by all hosts."""
    roots: Roots
    """Named folders of recordings, which may be mounted elsewhere on another host."""
    inbox: tuple[Path, ...] = ()
    """Folders that the nightly run searches."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of a worker, and device class of what is submitted."""
    nightly: str | None = None
    """Crontab form of the nightly run; None: no nightly run."""
    nightly_tz: str = "UTC"
    """Time zone of `nightly`, by its IANA name."""
    nightly_config: Path | None = None
    """JSON file with the PipelineConfig values of nightly runs; None: the defaults."""
    settle_s: float = 600.0
    """A recording is finished when nothing in it has changed for so long; 0: at once."""
    reconcile_s: float = 30.0
    """Pause between two reconciliations by beat."""
    max_waiting: int = 64
    """Chunks that may wait in the queue; the rest waits on the store."""
    lease_s: float = 20.0
    """A lease that is not renewed for this long is free: its worker is dead or paused."""
    decoder_threads: int | None = None
    """Threads of an extracting process's decoder; None: by device and cores."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read PLAYMILL_*; raise UsageError for what is missing or malformed."""
        env = os.environ if env is None else env

        missing = [PREFIX + name for name in REQUIRED if not env.get(PREFIX + name)]
        if missing:
            are = "are" if len(missing) > 1 else "is"
            raise UsageError(
                f"{', '.join(missing)} {are} not set; docs/operations.md lists the settings"
            )

        def get(name: str, default: str = "") -> str:
            return env.get(PREFIX + name) or default

        device = get("DEVICE", "auto")
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"{PREFIX}DEVICE is {device!r}; choose auto, cpu or cuda")
        nightly = env.get(PREFIX + "NIGHTLY") or None
        nightly_tz = get("NIGHTLY_TZ", "UTC")
        config_file = env.get(PREFIX + "NIGHTLY_CONFIG")
        roots = Roots.parse(get("ROOTS"))
        inbox = _inboxes(get("INBOX", ""), roots)
        _crontab(nightly, nightly_tz)
        if nightly is not None and not inbox:
            raise UsageError(f"{PREFIX}NIGHTLY is set, but {PREFIX}INBOX names no folder")
        return cls(
            broker_url=get("BROKER_URL"),
            store=_absolute(get("STORE"), "STORE"),
            datasets=_absolute(get("DATASETS"), "DATASETS"),
            roots=roots,
            inbox=inbox,
            device=device,  # type: ignore[arg-type]
            nightly=nightly,
            nightly_tz=nightly_tz,
            nightly_config=_absolute(config_file, "NIGHTLY_CONFIG") if config_file else None,
            settle_s=_positive(get("SETTLE_S", "600"), "SETTLE_S", or_zero=True),
            reconcile_s=_positive(get("RECONCILE_S", "30"), "RECONCILE_S"),
            max_waiting=max(1, int(_positive(get("MAX_WAITING", "64"), "MAX_WAITING"))),
            lease_s=_positive(get("LEASE_S", "20"), "LEASE_S"),
            decoder_threads=_count(env.get(PREFIX + "DECODER_THREADS"), "DECODER_THREADS"),
        )

    def to_env(self) -> dict[str, str]:
        """Return the environment from which a child process reads these settings."""
        roots = ",".join(f"{name}={folder}" for name, folder in self.roots.folders.items())
        values = {
            "BROKER_URL": self.broker_url,
            "STORE": str(self.store),
            "DATASETS": str(self.datasets),
            "ROOTS": roots,
            "INBOX": os.pathsep.join(str(path) for path in self.inbox),
            "DEVICE": self.device,
            "NIGHTLY": self.nightly or "",
            "NIGHTLY_TZ": self.nightly_tz,
            "NIGHTLY_CONFIG": str(self.nightly_config or ""),
            "SETTLE_S": str(self.settle_s),
            "RECONCILE_S": str(self.reconcile_s),
            "MAX_WAITING": str(self.max_waiting),
            "LEASE_S": str(self.lease_s),
            "DECODER_THREADS": str(self.decoder_threads or ""),
        }
        return {PREFIX + name: value for name, value in values.items()}

    @property
    def crontab(self) -> Crontab | None:
        """When nightly runs are due; None: never."""
        return _crontab(self.nightly, self.nightly_tz)

    @property
    def shown_broker_url(self) -> str:
        """The broker's URL without its password, for messages and logs."""
        return re.sub(r"(?<=://).*@", "***@", self.broker_url)


def forget_celery_variables() -> None:
    """Drop variables that Celery prefers to its configuration: they are another project's."""
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        os.environ.pop(f"CELERY_{name}", None)


def cuda_visible_devices() -> str | None:
    """Return what the one who started us set CUDA_VISIBLE_DEVICES to; None: nothing."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def armed_failpoints(env: Mapping[str, str] | None = None) -> list[Failpoint]:
    """Return what PLAYMILL_FAILPOINT asks for: name:action[:times], separated by commas.

    PLAYMILL_FAILPOINT_DIR, if set, is the folder that counts the times for all processes.

    Raises:
        UsageError: it is malformed.
    """
    env = os.environ if env is None else env
    folder = env.get(PREFIX + "FAILPOINT_DIR")
    texts = (env.get(PREFIX + "FAILPOINT") or "").split(",")
    try:
        return [Failpoint.parse(text, Path(folder) if folder else None) for text in texts if text]
    except ValueError as error:
        raise UsageError(f"{PREFIX}FAILPOINT: {error}") from None


def _absolute(text: str, name: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise UsageError(f"{PREFIX}{name} is {text!r}; give an absolute path")
    return path


def _inboxes(text: str, roots: Roots) -> tuple[Path, ...]:
    folders = tuple(_absolute(path, "INBOX") for path in text.split(os.pathsep) if path)
    for folder in folders:
        try:
            roots.locate(folder)
        except UsageError as error:
            raise UsageError(f"{PREFIX}INBOX: {error}") from None
    return folders


def _crontab(text: str | None, zone: str) -> Crontab | None:
    try:
        timezone = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # unknown; no name at all; a folder of names
        raise UsageError(
            f"{PREFIX}NIGHTLY_TZ is {zone!r}; give the name of a time zone: Europe/Berlin"
        ) from None
    try:
        return None if text is None else Crontab.parse(text, timezone)
    except UsageError as error:
        raise UsageError(
            f"{PREFIX}NIGHTLY is {text!r}; give five crontab fields: 0 2 * * * ({error})"
        ) from None


def _count(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_THREADS:
        raise UsageError(
            f"{PREFIX}{name} is {text!r}; give a whole number from 1 to {MAX_THREADS}, or nothing"
        )
    return int(text)


def _positive(text: str, name: str, *, or_zero: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < 1e9 or (or_zero and value == 0)):
        more = ", or 0" if or_zero else ""
        raise UsageError(f"{PREFIX}{name} is {text!r}; give a positive number{more}")
    return value
