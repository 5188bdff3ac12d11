"""`python -m bench`: run in the project's folder."""

from __future__ import annotations

import sys

from .commands import main

try:
    sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:
    sys.stderr.write("stopped: nothing was measured to its end\n")
    sys.exit(130)
