"""The engine as it is, in a world of its own: virtual time, processes that are killed at any step, one seed.

Everything happens in one thread, and every choice is made by one generator of chance: the same seed tells the
same story, step by step.
"""
