"""A program that tells what it finds: its words, its process and its surroundings."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def found() -> dict[str, object]:
    """Return what a program sees of its process, but for what no two have the same."""
    return {
        "words": sys.argv,
        "input": sys.stdin.read() if sys.argv[1] != "wait" else "",
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "is main": __name__ == "__main__" and vars(sys.modules["__main__"]) is globals(),
        "leads": os.getsid(0) == os.getpid(),
        "handlers": [str(signal.getsignal(each)) for each in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": [each.name for each in threading.enumerate()],
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "collects": (gc.isenabled(), gc.get_threshold()),
        "has read a configuration": "tasks" in sys.modules,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(found()) + "\n")
    atexit.register(sys.stdout.write, "ended in order\n")
    match sys.argv[1]:
        case "raise":
            raise ValueError("of its own")
        case "wait":
            sys.stdout.flush()
            while True:  # a signal between a look at those that came and a wait without end would be missed
                time.sleep(0.05)
        case status:
            sys.exit(int(status))
