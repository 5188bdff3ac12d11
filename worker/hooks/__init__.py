"""Hooks: how an alert is told, each in a process of its own, all at the same time, none past its limit."""
