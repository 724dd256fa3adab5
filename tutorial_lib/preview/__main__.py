"""``python -m tutorial_lib.preview``."""

import sys

from tutorial_lib.preview.cli import main

sys.exit(main())
