"""What we ask of Redis beside the queue: leases, and which steps wait.

Everything here may vanish at any moment; that costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import redis
from kombu.exceptions import OperationalError

from playmill.jobs import Needs, Step
from tasks.app import KEY_PREFIX, app, settings
from tasks.queues import QUEUES, is_urgent

log = logging.getLogger(__name__)

MIN_WAITING_INGESTS = 8
_LEASE, _SENT = f"{KEY_PREFIX}lease:", f"{KEY_PREFIX}sent:"
_SENT_URGENT = f"{KEY_PREFIX}sent-urgent:"
_STORE = f"{KEY_PREFIX}store"

# Redis may have been emptied meanwhile: a lease that nobody has is taken again.
_RENEW = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


@cache
def client() -> redis.Redis:
    """Return this process's own connection to the broker's Redis."""
    url = settings().broker_url.replace("redis+socket://", "unix://", 1)
    url = url.replace("?virtual_host=", "?db=", 1)
    return redis.Redis.from_url(
        url, socket_connect_timeout=5, socket_timeout=30, health_check_interval=25
    )


def why_unusable(error: Exception) -> str:
    """Return what is wrong with Redis, and what to do, from the error of a first use of it."""
    url = settings().shown_broker_url
    if isinstance(error, redis.AuthenticationError):
        return (
            f"the Redis at {url} refuses the user or the password; mend them in PLAYMILL_BROKER_URL"
        )
    # A malformed URL is quoted in the text of a ValueError, with its password.
    reason = f": {str(error).rstrip('.')}" if isinstance(error, redis.RedisError) else ""
    return f"no Redis answers at {url}{reason}; start it, or mend PLAYMILL_BROKER_URL"


def _lease_ms() -> int:
    return round(settings().lease_s * 1000)


class Lease:
    """The sole right to work on a step, renewed in the background while it is held."""

    def __init__(self, step: Step) -> None:
        self._key = _LEASE + step.name
        self._token = secrets.token_hex(8)
        self._released = threading.Event()
        self.on_renewal: Callable[[], None] = lambda: None
        """Called at each renewal, whether Redis can be reached or not: the holder is alive."""

    def acquire(self) -> bool:
        """Take the lease if nobody holds it, and keep it until `release`."""
        if not client().set(self._key, self._token, nx=True, px=_lease_ms()):
            return False
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewal.start()
        return True

    def _renew(self) -> None:
        while not self._released.wait(settings().lease_s / 4):
            with contextlib.suppress(OSError):
                self.on_renewal()
            # A Redis that is away loses the lease at worst, and then work is done twice.
            with contextlib.suppress(redis.RedisError):
                if not self._released.is_set():
                    client().eval(_RENEW, 1, self._key, self._token, _lease_ms())

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._released.set()
        # A renewal under way would take the lease again after it is given back.
        self._renewal.join(settings().lease_s)
        with contextlib.suppress(redis.RedisError):
            client().eval(_RELEASE, 1, self._key, self._token)


@contextlib.contextmanager
def leased(step: Step) -> Iterator[Lease | None]:
    """Hold the lease of `step` for a block; None: it could not be had."""
    lease = Lease(step)
    if not lease.acquire():
        yield None
        return
    try:
        yield lease
    finally:
        lease.release()


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What Redis knew at one moment."""

    running: frozenset[str] = frozenset()
    """Names of all steps that somebody holds a lease on."""
    waiting: frozenset[str] = frozenset()
    """Names of all steps that lie in a queue, or were sent a moment ago."""
    urgent: frozenset[str] = frozenset()
    """Those of them that went to a queue of urgent work."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Messages in each queue."""

    def waiting_for(self, needs: Needs) -> frozenset[str]:
        """Return what need not be sent: what has become urgent is sent again."""
        return self.urgent if needs.urgent else self.waiting

    def room(self, queue: str, verb: str, *, low: bool = False) -> int:
        """Return how many more steps of a verb a queue should take.

        Args:
            low: no more than keeps workers going until somebody looks at all jobs.
        """
        return (_low(verb) if low else _limit(verb)) - self.lengths.get(queue, 0)

    def busy(self) -> Counter[str]:
        """Return how many steps wait or run, by verb and parts key, or job: "extract:<key>"."""
        names = self.running | self.waiting
        return Counter(
            name.rpartition(":")[0] if name.startswith("extract:") else name for name in names
        )


def look() -> Snapshot:
    """Ask Redis what runs, and what waits."""
    running, waiting, urgent = set(), set(), set()
    for key in client().scan_iter(match=f"{KEY_PREFIX}*:*:*", count=1000):
        name = key.decode()
        if name.startswith(_LEASE):
            running.add(name.removeprefix(_LEASE))
        elif name.startswith(_SENT):
            waiting.add(name.removeprefix(_SENT))
        elif name.startswith(_SENT_URGENT):
            urgent.add(name.removeprefix(_SENT_URGENT))
    with client().pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.lrange(KEY_PREFIX + queue, 0, -1)
        contents = dict(zip(QUEUES, pipe.execute(), strict=True))
    for queue, messages in contents.items():
        (urgent if is_urgent(queue) else waiting).update(filter(None, map(_name, messages)))
    return Snapshot(
        running=frozenset(running),
        waiting=frozenset(waiting | urgent),
        urgent=frozenset(urgent),
        lengths={queue: len(messages) for queue, messages in contents.items()},
    )


def _name(message: bytes) -> str | None:
    try:
        return str(json.loads(message)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return None


def running_or_none() -> frozenset[str]:
    """Return the names of all steps under a lease, or nothing where Redis cannot be asked."""
    try:
        keys = client().scan_iter(match=f"{_LEASE}*", count=1000)
        return frozenset(key.decode().removeprefix(_LEASE) for key in keys)
    except (redis.RedisError, ValueError):
        return frozenset()


def length(queue: str) -> int:
    """Return how many messages wait in a queue."""
    return int(client().llen(KEY_PREFIX + queue))


def _limit(verb: str) -> int:
    if verb == "extract":
        return settings().max_waiting
    # Consolidations wait for nobody: what is finished first is out of the way. Ingests are few, as
    # consolidations stand in line behind them; more where many workers want for chunks.
    most_ingests = max(MIN_WAITING_INGESTS, settings().max_waiting // 8)
    return most_ingests if verb == "ingest" else sys.maxsize


def _low(verb: str) -> int:
    return max(1, _limit(verb) // 4)


def runs_low(queue: str, verb: str) -> bool:
    """Say whether a queue holds less than keeps workers going until somebody fills it."""
    return length(queue) < _low(verb)


def hungry(queue: str, verb: str) -> bool:
    """Say whether a queue is less than half full, so that workers may soon want for work."""
    return 2 * length(queue) < _limit(verb)


def note_store(store_id: str) -> None:
    """Note whose steps Redis holds: nobody begins another store beside it by mistake."""
    client().set(_STORE, store_id)


def noted_store() -> str | None:
    """Return the id of the store whose steps Redis holds, if it is noted."""
    value = client().get(_STORE)
    return value.decode() if isinstance(value, bytes) else None


def send(
    step: Step, queue: str, *, store_id: str | None, time_limit_s: float | None = None
) -> None:
    """Put a step on a queue, unless that was done a moment ago.

    Args:
        store_id: the store that the step's job is on; a worker that sees another leaves it.
    """
    # Not again for as long as a lease lasts: its message may be between two hands.
    mark = (_SENT_URGENT if is_urgent(queue) else _SENT) + step.name
    if not client().set(mark, "1", nx=True, px=_lease_ms()):
        return
    place = [step.job_id] if step.chunk_index is None else [step.job_id, step.chunk_index]
    args = [*place, store_id]
    try:
        # Not retried here: whoever sends may be the one who has to start Redis again.
        app.send_task(
            f"playmill.{step.verb}",
            args,
            queue=queue,
            task_id=step.name,
            time_limit=time_limit_s,
            retry=False,
        )
    except OperationalError as error:
        forget_sent(step)
        raise redis.ConnectionError(str(error)) from error


def forget_sent(step: Step) -> None:
    """Let a step be sent again at once: its message has arrived."""
    with contextlib.suppress(redis.RedisError):
        client().delete(_SENT + step.name, _SENT_URGENT + step.name)
