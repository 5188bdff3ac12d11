"""`python -m worker`: the service's command line."""

from __future__ import annotations

import sys

try:
    from .commands import main

    sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
