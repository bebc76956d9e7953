"""Why open jobs do not go on: nobody listens, or nobody who can do them; and what to do then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import redis

from playmill.jobs import OPEN_STATES, JobFacts, open_steps, state_of
from playmill.store import Store
from tasks import broker, presence
from tasks.fit import Fitness, seen_store
from tasks.queues import queue_of


class Waiting:
    """Looks once who listens; then says of any number of jobs what they wait for."""

    def __init__(self, store: Store) -> None:
        self._fitness = Fitness(store)
        self._reasons: Counter[str] = Counter()
        self._store = store
        self._store_id = seen_store(store)
        self._listeners: Mapping[str, presence.Listener] | None = None
        self.broken: str | None = None
        """What is wrong with Redis, if it cannot be asked."""
        try:
            self._listeners = presence.listeners()
        except (redis.RedisError, ValueError) as error:
            self.broken = broker.why_unusable(error)
        self.running = broker.running_or_none()
        """Names of the steps under a lease."""

    def note(self, facts: JobFacts) -> str | None:
        """Return what keeps a job from going on; None: nothing that is known of."""
        reason = self._reason(facts)
        if reason is not None:
            self._reasons[reason] += 1
        return reason

    def lines(self) -> list[str]:
        """Return a line for each reason that was noted, with the number of recordings."""
        return [
            f"{count} recording{'s wait' if count > 1 else ' waits'}: {reason}"
            for reason, count in self._reasons.most_common()
        ]

    def _reason(self, facts: JobFacts) -> str | None:
        if state_of(facts) not in OPEN_STATES:
            return None
        if self._listeners is None:
            return self.broken
        verb, device = facts.next_verb, facts.needs.device_class
        queue = queue_of(verb, device=device, urgent=False)
        there = {name: each for name, each in self._listeners.items() if queue in each.queues}
        able = {name for name, each in there.items() if each.store == self._store_id}
        no = {r.worker: r for r in self._fitness.refusals(facts) if r.worker in able}
        if able and not no:
            return None
        if any(step.name in facts.running for step in open_steps(facts)):
            return None
        if there and not able:
            return self._astray(there)
        if not able:
            return self._nobody(verb, device)
        who = "no worker that listens can do it" if able == no.keys() else "some workers cannot"
        reasons = {refusal.reason: refusal for refusal in no.values()}
        return f"{who}; {'; '.join(map(str, reasons.values()))}"

    def _astray(self, there: Mapping[str, presence.Listener]) -> str:
        seen = "; ".join(f"{name} sees {each.store or 'none'}" for name, each in there.items())
        return (
            f"no worker that listens sees the store at {self._store.root}, whose id is"
            f" {self._store_id or 'none'} ({seen}); mount its share there, or mend PLAYMILL_STORE,"
            " and start the worker again"
        )

    def _nobody(self, verb: str, device: str) -> str:
        assert self._listeners is not None
        if verb != "extract":
            return "no worker of the cpu queue listens; start one: playmill worker --queue cpu"
        other = "cpu" if device == "cuda" else "cuda"
        others = queue_of("extract", device=other, urgent=False)
        there = any(others in listener.queues for listener in self._listeners.values())
        instead = f"; or submit with --device {other}, as workers for that listen" if there else ""
        if device == "cuda":
            start = "no worker with a GPU listens; on a machine with one: playmill worker"
        else:
            start = (
                "no worker that extracts on a CPU listens; start one: PLAYMILL_DEVICE=cpu playmill"
                " worker"
            )
        return f"{start} --queue gpu{instead}"
