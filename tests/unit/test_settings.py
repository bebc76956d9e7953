"""Settings are read from the environment, refuse nonsense, and keep the password to themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playmill.errors import UsageError
from playmill.roots import Roots
from tasks.settings import Settings

LEAST = {
    "PLAYMILL_BROKER_URL": "redis://host/0",
    "PLAYMILL_STORE": "/store",
    "PLAYMILL_DATASETS": "/datasets",
    "PLAYMILL_ROOTS": "nas=/mnt/nas",
}


def read(**changed: str) -> Settings:
    """Read the least environment, with changed or further values."""
    return Settings.from_env(LEAST | {f"PLAYMILL_{name}": value for name, value in changed.items()})


def test_four_values_are_enough() -> None:
    settings = read()
    assert settings.store == Path("/store")
    assert settings.roots == Roots({"nas": Path("/mnt/nas")})
    assert (settings.device, settings.nightly, settings.inbox) == ("auto", None, ())


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env() == read()


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_what_is_missing_is_named(name: str, value: str | None) -> None:
    env = {key: text for key, text in LEAST.items() if key != name}
    if value is not None:
        env[name] = value
    with pytest.raises(UsageError, match=rf"{name} is not set; docs/operations\.md lists"):
        Settings.from_env(env)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(
        UsageError, match="PLAYMILL_STORE, PLAYMILL_DATASETS, PLAYMILL_ROOTS are not set; docs"
    ):
        Settings.from_env({"PLAYMILL_BROKER_URL": "redis://host/0"})


def test_a_child_process_reads_the_same_settings() -> None:
    settings = read(
        INBOX=f"/x/one{os.pathsep}/y=z/two words",
        NIGHTLY="0 2 * * 1-5",
        NIGHTLY_TZ="Europe/Berlin",
        NIGHTLY_CONFIG="/etc/night.json",
        SETTLE_S="90",
        DEVICE="cuda",
        RECONCILE_S="1.5",
        MAX_WAITING="7",
        DECODER_THREADS="5",
        ROOTS="a=/x,b=/y=z",
    )
    assert settings.inbox == (Path("/x/one"), Path("/y=z/two words"))
    assert settings.nightly_config == Path("/etc/night.json")
    assert settings.crontab is not None
    assert settings.crontab.zone.key == "Europe/Berlin"
    assert Settings.from_env(settings.to_env()) == settings
    assert Settings.from_env(read().to_env()) == read()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DEVICE", "tpu", "PLAYMILL_DEVICE is 'tpu'; choose auto, cpu or cuda"),
        ("NIGHTLY", "at two", "PLAYMILL_NIGHTLY is 'at two'; give five crontab fields"),
        (
            "NIGHTLY",
            "0 25 * * *",
            r"PLAYMILL_NIGHTLY is .*five crontab fields.*\(hour is '25'; 0 to 23",
        ),
        ("NIGHTLY", "0 2 * * *", "PLAYMILL_NIGHTLY is set, but PLAYMILL_INBOX names no folder"),
        ("NIGHTLY_TZ", "Mars/Olympus", "PLAYMILL_NIGHTLY_TZ is 'Mars/Olympus'; give the name of a"),
        ("NIGHTLY_TZ", "Europe", "PLAYMILL_NIGHTLY_TZ is 'Europe'; give the name of a time zone"),
        ("NIGHTLY_TZ", "../etc", "PLAYMILL_NIGHTLY_TZ is '../etc'"),
        (
            "NIGHTLY_CONFIG",
            "night.json",
            "PLAYMILL_NIGHTLY_CONFIG is 'night.json'; give an absolute",
        ),
        ("SETTLE_S", "-1", "PLAYMILL_SETTLE_S is '-1'; give a positive number, or 0"),
        ("INBOX", "/elsewhere", "PLAYMILL_INBOX: /elsewhere lies under none of the roots"),
        ("INBOX", "in", "PLAYMILL_INBOX is 'in'; give an absolute path"),
        ("RECONCILE_S", "soon", "PLAYMILL_RECONCILE_S is 'soon'; give a positive number"),
        ("RECONCILE_S", "0", "PLAYMILL_RECONCILE_S is '0'"),
        ("RECONCILE_S", "nan", "PLAYMILL_RECONCILE_S is 'nan'"),
        ("RECONCILE_S", "inf", "PLAYMILL_RECONCILE_S is 'inf'"),
        ("MAX_WAITING", "-1", "PLAYMILL_MAX_WAITING is '-1'"),
        ("DECODER_THREADS", "0", "PLAYMILL_DECODER_THREADS is '0'; give a whole number from 1"),
        ("DECODER_THREADS", "2.5", "PLAYMILL_DECODER_THREADS is '2.5'"),
        ("DECODER_THREADS", "65", "PLAYMILL_DECODER_THREADS is '65'"),
        ("ROOTS", "/mnt/nas", "root '/mnt/nas' is not of the form name=/absolute/folder"),
    ],
)
def test_a_malformed_value_is_a_usage_error(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(**{name: value})


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@host:6379/0",
        "rediss://user:s3cret@host/0",
        "redis+socket://:s3cret@/run/redis.sock?virtual_host=0",
        pytest.param("redis://:p@s3cret@host/0"),
        pytest.param("redis://:p/s3cret@host/0"),
    ],
)
def test_the_password_is_not_shown(url: str) -> None:
    shown = read(BROKER_URL=url).shown_broker_url
    assert "s3cret" not in shown
    assert shown.startswith(f"{url.partition('://')[0]}://")


def test_settings_that_are_printed_show_no_password() -> None:
    assert "s3cret" not in repr(read(BROKER_URL="redis://:s3cret@host/0"))


def test_a_broker_without_a_password_is_shown_whole() -> None:
    assert read().shown_broker_url == "redis://host/0"


def test_recordings_may_be_taken_at_once() -> None:
    assert read(SETTLE_S="0").settle_s == 0
