"""Measurements: this service against a plain Celery task for each message, taken in turn on one machine.

They measure and assert nothing about speed; docs/benchmarks.md says what each figure means.
"""
