"""Finds a campaign by its name and runs it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "counts")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"Which campaign? One of {', '.join(NAMES)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"tests.campaigns.{sys.argv[1]}").main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
