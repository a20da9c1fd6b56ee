"""Waiting for a condition in the tests, never for a time."""

import time


def eventually(look, seconds: float = 30.0):
    """Look until it is true; what was seen last, which is false if that took longer than ``seconds``. Assert it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.03)
    return seen
