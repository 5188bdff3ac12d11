"""Measurements: this service against the plain way of doing the same, taken in turn on one machine.

They measure and assert nothing about speed; docs/benchmarks.md says what each figure means.
"""
