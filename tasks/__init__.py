"""Verbs: thin Celery tasks around the library, and what they need of the queue."""
