"""Jobs: requests, commits, attempts, and `remaining()`, which says what is still to be done.

Everything here is a value or a pure function of values; `store/` reads and writes them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from playmill.config import PipelineConfig, digest_of
from playmill.manifest import JobPlan, SourceFile
from playmill.roots import RootedPath

MAX_ATTEMPTS = 3
"""Tries of one step before its recording fails."""
RETRY_DELAY_S = (0.0, 2.0, 10.0)
"""Pause before try 1, 2, 3: a full disk or a lost mount gets a moment to recover."""
SILENCE_S = 60.0
"""A last try that nothing is known of counts as failed after this long: its lease may be lost with
the queue, or taken just after the leases were listed."""

Verb = Literal["ingest", "extract", "consolidate"]
State = Literal[
    "queued", "planning", "extracting", "consolidating", "published", "failed", "cancelled"
]
OPEN_STATES: tuple[State, ...] = ("queued", "planning", "extracting", "consolidating")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One recording that somebody wants as a dataset."""

    job_id: str
    recording: RootedPath
    sources: tuple[SourceFile, ...]
    config: PipelineConfig
    submitted_ns: int
    """Unix time of the latest submission; the newest wins where two claim one session."""
    session_id: str | None = None
    """As far as it was known then, for people; what counts is the manifest's."""
    urgent: bool = False
    """Goes before everything that is not; changes neither the job's id nor its dataset."""
    submission_ns: int = 0
    """Unix time at which the submission began that it is part of: submissions share workers
    fairly, whatever their size."""

    @classmethod
    def make(
        cls,
        recording: RootedPath,
        sources: tuple[SourceFile, ...],
        config: PipelineConfig,
        *,
        submitted_ns: int,
        session_id: str | None = None,
        urgent: bool = False,
        submission_ns: int = 0,
    ) -> Request:
        """Build a request; equal recordings, sources and configuration give an equal job id."""
        job_id = digest_of(
            recording.root,
            recording.path,
            [source.to_json() for source in sources],
            config.to_json(),
        )
        return cls(
            job_id=job_id,
            recording=recording,
            sources=sources,
            config=config,
            submitted_ns=submitted_ns,
            session_id=session_id,
            urgent=urgent,
            submission_ns=submission_ns,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` is the inverse."""
        return {
            "version": 1,
            "job_id": self.job_id,
            "recording": {"root": self.recording.root, "path": self.recording.path},
            "sources": [source.to_json() for source in self.sources],
            "config": self.config.to_json(),
            "submitted_ns": self.submitted_ns,
            "session_id": self.session_id,
            "urgent": self.urgent,
            "submission_ns": self.submission_ns,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Request:
        """Build a request from `to_json`'s object."""
        return cls(
            job_id=value["job_id"],
            recording=RootedPath(**value["recording"]),
            sources=tuple(SourceFile(**source) for source in value["sources"]),
            config=PipelineConfig.from_json(value["config"]),
            submitted_ns=value["submitted_ns"],
            session_id=value["session_id"],
            # A version without these may have written the file.
            urgent=value.get("urgent", False),
            submission_ns=value.get("submission_ns", 0),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a job asks of those who work on it."""

    urgent: bool = False
    device_class: str = "cpu"
    decoder: str = "cpu"
    encoder: str = ""
    weights_digest: str | None = None
    root: str = ""
    """Root that its recording lies under."""
    source_bytes: int = 0
    submission_ns: int = 0
    submitted_ns: int = 0

    @classmethod
    def of(cls, request: Request) -> Needs:
        """Return what a request asks for."""
        return cls(
            urgent=request.urgent,
            device_class=request.config.device_class,
            decoder=request.config.decoder,
            encoder=request.config.encoder,
            weights_digest=request.config.weights_digest,
            root=request.recording.root,
            source_bytes=sum(source.size for source in request.sources),
            submission_ns=request.submission_ns,
            submitted_ns=request.submitted_ns,
        )

    def fit(self, verb: str, planned_weights: str | None) -> str:
        """Return a name for all steps that a worker can do either all of, or none.

        Args:
            planned_weights: digest of the weights in the job's plan; None before it is planned.
        """
        names = ("device_class", "decoder", "encoder", "weights_digest", "root")
        kind = [verb, *(getattr(self, name) for name in names)]
        return digest_of(kind, planned_weights)[:32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The marker of a finished chunk: which attempt won, and what is in its part."""

    chunk_index: int
    attempt: str
    """Folder of the winning part, beside the others of its chunk."""
    pts: array[int]
    """(n,) int64 stream ticks of the part's rows, strictly increasing."""
    flags: array[int]
    """(n,) uint8 `schema.FRAME_FLAGS` bits of each row, as far as one chunk can know them."""
    digests: Mapping[str, str]
    """Digest of each array of the part (`parts.py`)."""
    first_picture: str
    """Digest of the first row's picture; "" for a chunk without frames."""
    last_picture: str
    """Digest of the last row's picture: the next chunk's first may repeat it."""
    decoder: str
    hardware: str
    """What computed the features, e.g. "cpu: Intel Xeon"."""
    batch_size: int
    """Batch that fitted; less than asked for after running out of GPU memory."""
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` is the inverse."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "pts": self.pts.tolist(),
            "flags": self.flags.tolist(),
            "digests": dict(self.digests),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Commit:
        """Build a commit from `to_json`'s object."""
        # Arrays: ten hours have a million rows, and an object for each takes five times as much.
        return cls(
            **{
                **value,
                "pts": array("q", value["pts"]),
                "flags": array("B", value["flags"]),
                "warnings": tuple(value["warnings"]),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One task of a job, by the name that messages, leases and attempts know it by."""

    verb: Verb
    job_id: str
    chunk_index: int | None = None
    parts_key: str | None = None

    @property
    def name(self) -> str:
        """The step's identity: extraction belongs to the parts, so that jobs share it."""
        return _name(self.verb, self.job_id, self.parts_key, self.chunk_index)


def _name(verb: Verb, job_id: str, parts_key: str | None, chunk_index: int | None) -> str:
    return f"{verb}:{job_id}" if chunk_index is None else f"extract:{parts_key}:{chunk_index}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempts:
    """What became of the tries of one step so far."""

    begun: int = 0
    failed_at_s: float = 0.0
    """Unix time of the last recorded failure."""
    error: str | None = None
    """Its reason; None where the last try goes on, or ended without a word (its worker died)."""
    seen_s: float = 0.0
    """Unix time of the last sign of life of try MAX_ATTEMPTS; 0 for those before it."""
    hopeless: bool = False
    """Trying again cannot help."""


_UNTRIED = Attempts()


@dataclass(frozen=True, slots=True)
class Refusal:
    """One worker's no."""

    worker: str
    """The worker, as `tasks.presence` names it: host:pid."""
    reason: str

    def __str__(self) -> str:
        return f"{self.worker}: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFacts:
    """Everything known about one job at one moment."""

    job_id: str
    plan: JobPlan | None = None
    """None before the job is planned."""
    committed: frozenset[int] = frozenset()
    """Chunks with a commit marker."""
    attempts: Mapping[str, Attempts] = field(default_factory=dict)
    """By step name."""
    busy: frozenset[str] = frozenset()
    """Names of the steps that a worker holds a lease on, or that wait in the queue."""
    running: frozenset[str] = frozenset()
    """Names of the steps that a worker holds a lease on."""
    published: bool = False
    failed: str | None = None
    """The reason."""
    cancelled: bool = False
    needs: Needs = Needs()
    refused: tuple[Refusal, ...] = ()
    """What every worker that listens says against its next step; (): one can, or none listens."""

    @property
    def next_verb(self) -> Verb:
        """What is to be done next, if it has not ended."""
        if self.plan is None:
            return "ingest"
        complete = self.committed.issuperset(range(len(self.plan.chunk_frames)))
        return "consolidate" if complete else "extract"

    @property
    def fit(self) -> str:
        """`Needs.fit` of its next step."""
        return self.needs.fit(self.next_verb, self.plan.weights_digest if self.plan else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Send:
    """Put a step on the queue."""

    step: Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Fail:
    """Declare the job failed."""

    job_id: str
    reason: str


Action = Send | Fail


def open_steps(facts: JobFacts) -> list[Step]:
    """Return the steps that are neither done nor behind one that is not done."""
    return [_step(facts, chunk_index) for chunk_index in _open_chunks(facts)]


def _open_chunks(facts: JobFacts) -> Iterable[int | None]:
    """Return the chunks of the open steps; None stands for a step that is of no chunk."""
    if facts.published or facts.failed is not None or facts.cancelled:
        return ()
    if facts.plan is None:
        return (None,)
    missing = [i for i in range(len(facts.plan.chunk_frames)) if i not in facts.committed]
    return missing or (None,)


def _step(facts: JobFacts, chunk_index: int | None) -> Step:
    return Step(
        verb=facts.next_verb,
        job_id=facts.job_id,
        chunk_index=chunk_index,
        parts_key=facts.plan.parts_key if facts.plan and chunk_index is not None else None,
    )


def remaining(facts: JobFacts, *, now_s: float, most: int = sys.maxsize) -> list[Action]:
    """Say what is to be done for a job now: a pure function of what is stored.

    A step that somebody works on, or that waits in the queue, needs nothing. One that failed
    too often, or hopelessly, fails the job. What nobody can do is not sent, and waits.

    Args:
        most: how many steps there is room for; a failure is found in any case.
    """
    actions: list[Action] = []
    verb, parts_key = facts.next_verb, facts.plan.parts_key if facts.plan else None
    for chunk_index in _open_chunks(facts):
        # The name alone: most of many steps are asked for no more.
        name = _name(verb, facts.job_id, parts_key, chunk_index)
        if name in facts.busy:
            continue
        tried = facts.attempts.get(name, _UNTRIED)
        if tried.hopeless or tried.begun >= MAX_ATTEMPTS:
            if tried.error is None and now_s < tried.seen_s + SILENCE_S:
                continue
            return [Fail(job_id=facts.job_id, reason=_reason(_step(facts, chunk_index), tried))]
        is_due = now_s >= tried.failed_at_s + RETRY_DELAY_S[tried.begun]
        if is_due and not facts.refused and len(actions) < most:
            actions.append(Send(step=_step(facts, chunk_index)))
    return actions


def _reason(step: Step, tried: Attempts) -> str:
    if tried.hopeless and tried.error:
        return tried.error
    what = step.verb if step.chunk_index is None else f"{step.verb} of chunk {step.chunk_index}"
    how = tried.error or "the worker died each time; its log says more"
    return f"{what} failed {tried.begun} times, last: {how}"


def state_of(facts: JobFacts) -> State:
    """Return the word for where a job is."""
    if facts.published:
        return "published"
    if facts.failed is not None:
        return "failed"
    if facts.cancelled:
        return "cancelled"
    if facts.plan is None:
        return "planning" if _step(facts, None).name in facts.running else "queued"
    return "extracting" if facts.next_verb == "extract" else "consolidating"
