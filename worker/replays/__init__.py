"""Replays: what a dead message may be sent again by, one at a time or many with care.

Console and command line are thin users of it: values go in and come out, and nothing is printed here.
"""
