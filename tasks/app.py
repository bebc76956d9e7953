"""The Celery application: queues, routes and the rules of delivery.

Why each value is what it is: docs/decisions/no-chord.md and docs/operations.md.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from tasks.queues import CPU, QUEUES
from tasks.settings import Settings, forget_celery_variables

KEY_PREFIX = "playmill:"
"""Stands before every key of ours in Redis."""
VISIBILITY_TIMEOUT_S = 12 * 3600
"""Longer than any task may run: redelivery is `reconcile`'s work, which knows better."""

VERBS = ("ingest", "extract", "consolidate", "reconcile", "nightly")


def configuration(broker_url: str) -> dict[str, Any]:
    """Return every setting of the application that differs from Celery's default."""
    socket = broker_url.startswith("redis+socket://")
    return {
        "broker_url": broker_url,
        # The store is the truth: no results, JSON only, nothing but ids in messages.
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # A message is kept until its task ends; tasks are safe to run twice. Failures are
        # counted on the store, so a failed or timed-out task is acknowledged, never requeued.
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        "task_reject_on_worker_lost": False,
        "worker_deduplicate_successful_tasks": False,
        "worker_prefetch_multiplier": 1,
        # A task outlives the loss of Redis: its lease is taken again, its commit is on the store.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "global_keyprefix": KEY_PREFIX,
            "socket_timeout": 30,
            "health_check_interval": 25,
            "retry_on_timeout": True,
            # In the order in which a worker was given its queues: what is urgent comes first.
            "queue_order_strategy": "priority",
        }
        | ({} if socket else {"socket_keepalive": True}),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_create_missing_queues": False,
        # Each queue has an exchange of its own; without one all would share the default queue's,
        # and every message would go to both.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": CPU,
        # Nothing that forks may have touched CUDA; a child that imports torch is slow to come up.
        "worker_pool": "prefork",
        "worker_concurrency": 1,
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": 180,
        "worker_soft_shutdown_timeout": 120,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
    }


_chosen: list[Settings] = []


def use(chosen: Settings) -> None:
    """Make `chosen` this process's settings, in place of the environment's; call it first."""
    forget_celery_variables()
    _chosen[:] = [chosen]


def settings() -> Settings:
    """Return this process's settings, read once."""
    if not _chosen:
        use(Settings.from_env())
    return _chosen[0]


app = Celery("playmill", include=[f"tasks.{verb}" for verb in VERBS])
# Read when the first setting is asked for, so that importing the application needs no environment.
app.add_defaults(lambda: configuration(settings().broker_url))
