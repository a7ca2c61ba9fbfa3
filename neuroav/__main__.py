"""``python -m neuroav``, as torchrun starts it."""

import sys

from neuroav.cli import main

if __name__ == "__main__":
    sys.exit(main())
