"""PipelineConfig holds what changes bytes, refuses nonsense, and goes through JSON unchanged."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from playmill.config import MAX_TIME_US, PipelineConfig, canonical_json, digest_of
from playmill.errors import UsageError

OTHER: dict[str, Any] = {
    "encoder": "mean_pixel",
    "weights_digest": "0" * 64,
    "precision": "fp16",
    "runtime": "torch",
    "batch_size": 3,
    "num_threads": 1,
    "chunk_frames": 100,
    "device_class": "cuda",
    "decoder": "nvdec",
    "image_size": (64, 48),
    "policy": "nearest",
    "window_us": 5,
    "latency_us": -5,
    "pts_zero_us": 7,
    "input_format": "owl-control",
    "keep_text": True,
    "trim_stop_chord": True,
    "auto_latency": True,
    "require": ("coverage>0.9",),
    "controls": (("w", "forward"),),
}


def other(name: str) -> PipelineConfig:
    """Return a configuration in which one value is not the default, and what that one needs."""
    needed = {"device_class": "cuda"} if name == "decoder" else {}
    return PipelineConfig(**needed | {name: OTHER[name]})


def test_the_samples_name_every_field() -> None:
    assert set(OTHER) == {field.name for field in fields(PipelineConfig)}


@pytest.mark.parametrize("name", OTHER)
def test_every_value_survives_json(name: str) -> None:
    config = other(name)
    assert PipelineConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config != PipelineConfig()


def test_an_unbounded_window_is_not_the_readers_window() -> None:
    unbounded = PipelineConfig(window_us=None)
    assert PipelineConfig.from_json(unbounded.to_json()).window_us is None
    assert unbounded != PipelineConfig()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"policy": "sometimes"}, "unknown policy 'sometimes'; choose one of following, preceding"),
        ({"policy": "nearst"}, r"'nearst' \(did you mean 'nearest'\?\);.* nearest, window$"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose one of fp32"),
        ({"runtime": "onnx"}, "unknown runtime 'onnx'; choose one of torch, openvino$"),
        (
            {"runtime": "openvino", "device_class": "cuda"},
            "openvino computes fp32 and bf16 on the device cpu, not fp32 on cuda",
        ),
        (
            {"runtime": "openvino", "precision": "fp16"},
            "openvino computes fp32 and bf16 on the device cpu, not fp16 on cpu",
        ),
        ({"decoder": "nvenc"}, r"'nvenc' \(did you mean 'nvdec'\?\); choose one of cpu, nvdec$"),
        (
            {"decoder": "nvdec"},
            "nvdec is a part of NVIDIA GPUs, for the device cuda, not cpu; leave",
        ),
        ({"device_class": "tpu"}, "unknown device_class 'tpu'; choose one of cpu, cuda"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"num_threads": 0}, "num_threads is 0"),
        ({"chunk_frames": -1}, "chunk_frames is -1"),
        ({"window_us": -2}, "window_us is -2; it must be 0 or more"),
        ({"window_us": MAX_TIME_US}, "window_us is .* must lie within"),
        ({"latency_us": -MAX_TIME_US}, "latency_us is .* must lie within"),
        ({"pts_zero_us": MAX_TIME_US}, "pts_zero_us is .* must lie within"),
        ({"policy": "window", "window_us": None}, "policy 'window' needs a window"),
        ({"image_size": (0, 5)}, r"image_size is \(0, 5\); both sides"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_impossible_value_is_a_usage_error(value: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PipelineConfig(**value)


def test_an_unknown_name_in_json_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown configuration values: colour, shape"):
        PipelineConfig.from_json(PipelineConfig().to_json() | {"shape": 1, "colour": 2})


@pytest.mark.parametrize(
    "name",
    [
        "encoder",
        "weights_digest",
        "precision",
        "runtime",
        "batch_size",
        "device_class",
        "image_size",
    ],
)  # fmt: skip
def test_what_decides_the_features_changes_the_extraction(name: str) -> None:
    assert PipelineConfig(**{name: OTHER[name]}).extraction() != PipelineConfig().extraction()


def test_what_decodes_changes_the_extraction_where_it_is_not_the_cpu() -> None:
    on_cuda = PipelineConfig(device_class="cuda").extraction()
    assert other("decoder").extraction() == on_cuda | {"decoder": "nvdec"}
    assert "decoder" not in on_cuda


@pytest.mark.parametrize("name", ["policy", "window_us", "latency_us", "pts_zero_us"])
def test_what_decides_the_labels_alone_leaves_the_extraction(name: str) -> None:
    assert PipelineConfig(**{name: OTHER[name]}).extraction() == PipelineConfig().extraction()


@pytest.mark.parametrize(
    ("config", "runtime"),
    [
        ({}, "openvino"),
        ({"precision": "bf16"}, "openvino"),
        ({"precision": "fp16"}, "torch"),
        ({"device_class": "cuda"}, "torch"),
        ({"encoder": "timm:resnet18"}, "openvino"),
        ({"encoder": "torchvision:resnet18"}, "openvino"),
        ({"encoder": "mean_pixel"}, "torch"),
        ({"encoder": "team.models:build"}, "torch"),
        ({"encoder": "team.models:build", "runtime": "openvino"}, "openvino"),
        ({"runtime": "torch"}, "torch"),
    ],
    ids=str,
)
def test_the_faster_runtime_is_chosen_where_it_is_sure_to_fit(
    config: dict[str, Any], runtime: str
) -> None:
    assert PipelineConfig(**config).chosen_runtime == runtime


def test_threads_do_not_matter_to_the_features() -> None:
    assert PipelineConfig(num_threads=1).extraction() == PipelineConfig().extraction()


def test_canonical_json_does_not_depend_on_the_order_of_names() -> None:
    assert canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'


def test_digests_keep_the_borders_between_parts() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("1") != digest_of(1)


def test_a_name_that_is_no_unicode_has_a_digest() -> None:
    assert len(digest_of("video-\udcff.mp4")) == 64


@pytest.mark.parametrize(
    ("has_bf16", "values", "precision"),
    [
        (True, {}, "bf16"),
        (False, {}, "fp32"),
        (True, {"precision": "fp32"}, "fp32"),
        (True, {"encoder": "timm:resnet18"}, "fp32"),
        (True, {"runtime": "torch"}, "fp32"),
        (True, {"device_class": "cuda"}, "fp32"),
    ],
)
def test_the_default_precision_is_decided_once(
    has_bf16: bool, values: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playmill.config.has_bf16", lambda: has_bf16)
    config = PipelineConfig(**values)
    assert config.precision == precision
    monkeypatch.setattr("playmill.config.has_bf16", lambda: not has_bf16)
    assert PipelineConfig.from_json(config.to_json()) == config
