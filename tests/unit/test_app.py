"""The Celery application: every setting exists, every queue is its own, messages are JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.defaults import NAMESPACES, flatten

from playmill.roots import Roots
from tasks import app as app_module
from tasks.app import VERBS, app, configuration
from tasks.queues import QUEUES, is_urgent, queue_of, served_by
from tasks.settings import Settings

URLS = ["redis://host/0", "redis+socket:///run/redis.sock?virtual_host=0"]


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path) -> Iterator[None]:
    before = list(app_module._chosen)
    app_module.use(Settings(broker_url=URLS[0], store=tmp_path, datasets=tmp_path, roots=Roots({})))
    yield
    app_module._chosen[:] = before


@pytest.mark.parametrize("url", URLS, ids=["tcp", "socket"])
def test_every_configured_key_is_one_that_celery_knows(url: str) -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(configuration(url)) <= known


def test_every_queue_has_an_exchange_of_its_own() -> None:
    queues = configuration(URLS[0])["task_queues"]
    assert [queue.name for queue in queues] == list(QUEUES)
    for queue in queues:
        assert (queue.exchange.name, queue.routing_key) == (queue.name, queue.name)


def test_messages_are_json_and_results_are_not_kept() -> None:
    values = configuration(URLS[0])
    assert values["accept_content"] == values["result_accept_content"] == ["json"]
    assert values["task_serializer"] == "json"
    assert values["task_ignore_result"] is True


def test_a_task_may_run_for_hours_without_being_given_to_another() -> None:
    options = configuration(URLS[0])["broker_transport_options"]
    assert options["visibility_timeout"] >= 6 * 3600
    assert options["global_keyprefix"] == "playmill:"


def test_every_verb_is_a_task_with_a_name_of_ours() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == {f"playmill.{verb}" for verb in VERBS}


@pytest.mark.parametrize(
    ("verb", "device", "urgent", "queue"),
    [
        ("ingest", "cuda", False, "cpu"),
        ("consolidate", "cpu", True, "cpu.urgent"),
        ("extract", "cpu", False, "extract-cpu"),
        ("extract", "cuda", True, "extract-cuda.urgent"),
    ],
)
def test_a_step_waits_where_a_worker_that_can_do_it_looks(
    verb: str, device: str, urgent: bool, queue: str
) -> None:
    assert queue_of(verb, device=device, urgent=urgent) == queue
    assert queue in QUEUES
    kind = "gpu" if verb == "extract" else "cpu"
    assert queue in served_by(kind, device=device)
    assert is_urgent(queue) is urgent


def test_a_worker_looks_for_urgent_work_first() -> None:
    assert served_by("gpu", device="cuda") == ("extract-cuda.urgent", "extract-cuda")
    assert served_by("cpu", device="cuda") == ("cpu.urgent", "cpu")
    options = configuration(URLS[0])["broker_transport_options"]
    assert options["queue_order_strategy"] == "priority"


def test_queues_that_are_not_declared_are_not_made() -> None:
    assert configuration(URLS[0])["task_create_missing_queues"] is False


def test_no_task_relies_on_a_chord_or_a_result() -> None:
    for path in Path(app_module.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(chord|chain|group)\(|\.get\(timeout", text), path.name
