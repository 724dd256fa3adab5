"""``python -m tutorial_lib.engines``."""

import sys

from tutorial_lib.engines.cli import main

sys.exit(main())
