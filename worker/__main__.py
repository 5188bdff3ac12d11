"""`python -m worker`: the service's command line."""

from __future__ import annotations

import sys

from .commands import main

sys.exit(main(sys.argv[1:]))
