"""Quarantine: messages that may be what ends the process of each engine that sends them.

A message whose lease has run out twice is in quarantine. It may be the cause, or an innocent that was in the
same hands: so it is sent by a process of its own, which has one message at a time, while an engine watches.
Where that process dies it is the message's doing; after the second time in a row the message is dead. What
nobody saw, since a kill took engine and process along, is held against it only after the tenth time.
"""

from .keeping import Death, Keeper

__all__ = ["Death", "Keeper"]
