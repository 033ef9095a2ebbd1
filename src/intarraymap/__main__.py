"""``python -m intarraymap``."""

import sys

from intarraymap.cli import main

if __name__ == "__main__":
    sys.exit(main())
