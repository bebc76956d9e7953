"""PipelineConfig: everything that changes the bytes of a dataset, and nothing else.

Where things run is `tasks.settings.Settings`; there is no third kind of configuration.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from playmill.errors import UsageError
from playmill.phrases import suggestion
from playmill.processor import has_bf16

Policy = Literal["following", "preceding", "nearest", "window", "line"]
Precision = Literal["fp32", "bf16", "fp16"]
DeviceClass = Literal["cpu", "cuda"]
Runtime = Literal["torch", "openvino"]
Decoder = Literal["cpu", "nvdec"]

POLICIES: tuple[str, ...] = get_args(Policy)[:-1]
"""Rules that compare times, and that a user may choose from."""
LINE_POLICY = "line"
"""The policy of logs whose lines belong to frames by their order: no choice, but a fact."""
PRECISIONS: tuple[str, ...] = get_args(Precision)
DEVICE_CLASSES: tuple[str, ...] = get_args(DeviceClass)
RUNTIMES: tuple[str, ...] = get_args(Runtime)
DECODERS: tuple[str, ...] = get_args(Decoder)
COMPILED_KINDS = ("efficientnet_lite0", "timm", "torchvision")
"""First part of the names of encoders that OpenVINO runs unless told otherwise: a factory's
module may do what cannot be compiled."""
_OPENVINO = {("cpu", "fp32"), ("cpu", "bf16")}

BEST_PRECISION: Literal["best"] = "best"
"""`precision` value that means: the fastest whose features are as good. A configuration that is
made has decided for one of PRECISIONS by what the machine is that it is made on."""
_FAITHFUL_IN_BF16 = "efficientnet_lite0"
"""The encoder whose bf16 is known to be as good (docs/decisions/precision.md)."""

MAX_TIME_US = 2**62
"""Times and differences of times lie below this, so that their sums fit into 64 bits."""

READER_POLICY: Literal["reader"] = "reader"
"""`policy` value that means: the default of the recording's reader (following, or line)."""
READER_WINDOW = -1
"""`window_us` value that means: the default of the recording's reader (100 ms, or none)."""


def canonical_json(value: object) -> str:
    """Write `value` as JSON in the one form that digests are taken of: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(*parts: object) -> str:
    """Return the sha256 hex digest of `parts` as canonical JSON."""
    # Names are data: one that is no valid UTF-8 lives as surrogates in Python.
    text = canonical_json(list(parts)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """One way of making datasets. Equal configurations and sources give equal bytes."""

    encoder: str = "efficientnet_lite0"
    """Vision backbone by name (`encoders.py` lists the forms)."""
    weights_digest: str | None = None
    """sha256 of a weights file that replaces the encoder's own weights; None: its own."""
    precision: Precision | Literal["best"] = BEST_PRECISION
    """Arithmetic of the backbone; BEST_PRECISION becomes one of the others at once."""
    runtime: Runtime | None = None
    """What computes the backbone; None: what is fastest, `chosen_runtime`."""
    batch_size: int = 8
    """Frames in one pass of the backbone; the last batch of a chunk is padded to it."""
    num_threads: int = 2
    """Cores that one extracting process uses of a CPU: each computes batches of its own, so that
    no feature depends on their number."""
    chunk_frames: int = 1024
    """Target length of a chunk, in frames; chunks hold whole GOPs, so they are about as long."""
    device_class: DeviceClass = "cpu"
    """Kind of device that computes the features."""
    decoder: Decoder = "cpu"
    """What decodes the video; what NVDEC does not decode the CPU does. Of sound streams both give
    the same pictures; NVDEC says less of damage, so that other pictures may be flagged."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the pictures stored in /frames/image; None: none are stored."""
    policy: Policy | Literal["reader"] = READER_POLICY
    """Rule that gives events to frames (`synchronizer.py`); READER_POLICY: the reader's."""
    window_us: int | None = READER_WINDOW
    """Largest |t' - t[i]| of an assigned event; None: unbounded; READER_WINDOW: the reader's."""
    latency_us: int = 0
    """Added to event times before assignment; positive: an event's effect is seen later."""
    auto_latency: bool = False
    """Apply in its place the lag that the pictures show, where they do (`alignment/lag.py`)."""
    pts_zero_us: int | None = None
    """Unix time of pts 0 for a recording that does not say it; None: unknown."""
    input_format: str | None = None
    """Reader of the logs beside bare videos; None: found by looking at the files."""
    keep_text: bool = False
    """Keep typed text and window titles, which are dropped unless asked for."""
    trim_stop_chord: bool = False
    """Keep the keys that stopped the recorder out of what was held and pressed."""
    controls: tuple[tuple[str, str], ...] = ()
    """(input name, its meaning in the game), added to those of session.json."""
    require: tuple[str, ...] = ()
    """Gates on the alignment report (`alignment/gates.py`); what misses one is not published."""

    def __post_init__(self) -> None:
        if self.precision == BEST_PRECISION:
            object.__setattr__(self, "precision", self._best_precision())
        for name, allowed in (
            ("policy", (*POLICIES, LINE_POLICY, READER_POLICY)),
            ("precision", PRECISIONS),
            ("device_class", DEVICE_CLASSES),
            ("runtime", (None, *RUNTIMES)),
            ("decoder", DECODERS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                # The other two are not for people: they come from a recording's format.
                hidden = (READER_POLICY, LINE_POLICY, None)
                choice = [item for item in allowed if item not in hidden]
                raise UsageError(
                    f"unknown {name} {value!r}{suggestion(str(value), choice)};"
                    f" choose one of {', '.join(choice)}"
                )
        if self.runtime == "openvino" and (self.device_class, self.precision) not in _OPENVINO:
            raise UsageError(
                f"runtime openvino computes fp32 and bf16 on the device cpu, not {self.precision}"
                f" on {self.device_class}; leave --runtime out"
            )
        if self.decoder == "nvdec" and self.device_class != "cuda":
            raise UsageError(
                f"decoder nvdec is a part of NVIDIA GPUs, for the device cuda, not"
                f" {self.device_class}; leave --decoder out"
            )
        for name in ("batch_size", "num_threads", "chunk_frames"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("window_us", "latency_us", "pts_zero_us"):
            if abs(getattr(self, name) or 0) >= MAX_TIME_US:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie within +-2**62")
        if self.window_us is not None and self.window_us < 0 and self.window_us != READER_WINDOW:
            raise UsageError(f"window_us is {self.window_us}; it must be 0 or more, or None")
        if self.policy == LINE_POLICY and (self.latency_us or self.auto_latency):
            raise UsageError("policy 'line' gives line i to frame i; it has no latency")
        if self.policy == "window" and self.window_us is None:
            raise UsageError("policy 'window' needs a window; give --window-ms a number")
        if self.image_size is not None and min(self.image_size) < 1:
            raise UsageError(f"image_size is {self.image_size}; both sides must be at least 1")

    def _best_precision(self) -> Precision:
        fits = self.encoder == _FAITHFUL_IN_BF16 and self.device_class == "cpu"
        return "bf16" if fits and self.runtime != "torch" and has_bf16() else "fp32"

    def extraction(self) -> dict[str, Any]:
        """Return what decides the features: the part of the configuration in every parts key."""
        names = ("encoder", "weights_digest", "precision", "batch_size", "image_size")
        chosen = {"device": self.device_class, "runtime": self.chosen_runtime}
        # A key without a word of it means the CPU.
        decoder = {} if self.decoder == "cpu" else {"decoder": self.decoder}
        return {name: getattr(self, name) for name in names} | chosen | decoder

    @property
    def chosen_runtime(self) -> Runtime:
        """What computes the backbone."""
        if self.runtime is not None:
            return self.runtime
        compiled = self.encoder.partition(":")[0] in COMPILED_KINDS
        fits = (self.device_class, self.precision) in _OPENVINO
        return "openvino" if compiled and fits else "torch"

    @property
    def num_passes(self) -> int:
        """Batches that go through the backbone side by side."""
        return self.num_threads if self.device_class == "cpu" else 1

    def labelling(self) -> dict[str, Any]:
        """Return what decides how events are read and given to frames."""
        names = (
            "policy",
            "window_us",
            "latency_us",
            "auto_latency",
            "keep_text",
            "require",
            "trim_stop_chord",
        )
        return {name: getattr(self, name) for name in names} | {"controls": dict(self.controls)}

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as a JSON object; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PipelineConfig:
        """Build a configuration from `to_json`'s object; raise UsageError for unknown names."""
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"unknown configuration values: {', '.join(unknown)}")
        size = value.get("image_size")
        image_size = None if size is None else (int(size[0]), int(size[1]))
        controls = tuple((str(name), str(meaning)) for name, meaning in value.get("controls", ()))
        changed = {"image_size": image_size, "controls": controls}
        return cls(**{**value, **changed, "require": tuple(value.get("require", ()))})
