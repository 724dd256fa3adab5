"""``python -m tutorial_lib.engines install``."""

import sys

from tutorial_lib.engines import install

if sys.argv[1:2] != ["install"]:
    sys.exit("error: use `python -m tutorial_lib.engines install`, or, to build, `python -m tutorial_lib engines`.")
sys.exit(install.main(sys.argv[2:]))
