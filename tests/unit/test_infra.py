"""The deployment's files agree with the code and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from playmill import cli
from tasks.app import configuration
from tasks.settings import PREFIX, Settings
from tests.compose_file import PROJECT, container_path, read_compose

COMPOSE = read_compose({"REDIS_PASSWORD": "secret"})
MILL = {name: service for name, service in COMPOSE["services"].items() if name != "redis"}
services = pytest.mark.parametrize("service", MILL.values(), ids=MILL)


@pytest.fixture(scope="module")
def command() -> typer.core.TyperGroup:
    cli._add_mill_verbs()
    group = get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def known_settings() -> set[str]:
    env = {"BROKER_URL": "redis://h/0", "STORE": "/s", "DATASETS": "/d", "ROOTS": "r=/r"}
    settings = Settings.from_env({PREFIX + name: value for name, value in env.items()})
    return set(settings.to_env())


@services
def test_a_service_sets_only_settings_that_are_read(service: dict) -> None:
    assert set(service["environment"]) <= known_settings()
    Settings.from_env(service["environment"])


@services
def test_a_service_runs_a_command_that_parses(
    service: dict, command: typer.core.TyperGroup
) -> None:
    program, *arguments = service["command"]
    assert program == "playmill"
    name, sub, rest = command.resolve_command(
        command.make_context("playmill", list(arguments)), list(arguments)
    )
    assert name in ("worker", "beat")
    sub.make_context(name, rest)


@services
def test_a_service_has_its_folders_mounted_and_can_change_nothing_else(service: dict) -> None:
    mounts = {container_path(mount): mount for mount in service["volumes"]}
    settings = Settings.from_env(service["environment"])
    assert {str(settings.store), str(settings.datasets)} <= set(mounts)
    for folder in settings.roots.folders.values():
        assert mounts[str(folder)].endswith(":ro")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith(("root", "0"))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_has_a_health_check(name: str) -> None:
    kind, *words = COMPOSE["services"][name]["healthcheck"]["test"]
    assert (kind, words[0].split()[0]) in (("CMD", "python"), ("CMD-SHELL", "redis-cli"))
    if kind == "CMD":
        assert (PROJECT / words[1]).is_file()


def test_every_gpu_service_has_a_gpu_of_its_own() -> None:
    devices = {
        name: service["deploy"]["resources"]["reservations"]["devices"]
        for name, service in MILL.items()
        if "deploy" in service
    }
    assert {name: item["device_ids"] for name, (item,) in devices.items()} == {
        f"gpu{number}": [str(number)] for number in range(8)
    }
    assert all(MILL[name]["profiles"] == [name] for name in devices)
    assert all(MILL[name]["build"]["target"] == "cuda" for name in devices)


def test_an_extracting_service_takes_what_it_is_for() -> None:
    devices = {name: MILL[name]["environment"]["PLAYMILL_DEVICE"] for name in MILL}
    assert {devices[f"gpu{number}"] for number in range(8)} == {"cuda"}
    assert devices["cpu-extract"] == "cpu"


def test_a_worker_is_killed_only_after_its_soft_shutdown() -> None:
    soft_s = configuration("redis://h/0")["worker_soft_shutdown_timeout"]
    for name in ("cpu", "cpu-extract", "gpu0"):
        assert int(MILL[name]["stop_grace_period"].removesuffix("s")) > soft_s
    unit = (PROJECT / "infra" / "playmill-worker@.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > soft_s


def test_the_password_stands_in_no_command() -> None:
    for service in COMPOSE["services"].values():
        assert "secret" not in str(service["command"])


def test_the_example_explains_every_variable() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    variables = set(re.findall(r"\$\{(\w+)", text))
    example = (PROJECT / "infra" / ".env.example").read_text()
    explained = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    assert explained == variables | {"COMPOSE_PROFILES"}


def test_the_image_is_made_of_files_that_reach_the_build() -> None:
    dockerfile = (PROJECT / "infra" / "Dockerfile").read_text()
    sources = [
        name
        for line in dockerfile.splitlines()
        if line.startswith("COPY ")
        for name in line.split()[1:-1]
    ]
    ignore = (PROJECT / ".dockerignore").read_text().split("\n")
    assert "*" in ignore
    for name in sources:
        assert (PROJECT / name).exists()
        assert f"!{name}" in ignore
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    assert {service["build"]["target"] for service in MILL.values()} <= targets


def test_operations_lists_every_setting() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    assert known_settings() == set(re.findall(r"^\| `(PLAYMILL_\w+)`", text, re.MULTILINE))


@pytest.mark.parametrize(
    "path",
    [*(PROJECT / "infra").glob("*"), PROJECT / "docker-compose.yml"],
    ids=lambda path: path.name,
)
def test_nothing_names_a_package_host(path: Path) -> None:
    if path.is_file():
        assert not re.search(r"https?://|index-url", path.read_text())
