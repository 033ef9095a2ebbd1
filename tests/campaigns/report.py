"""Prints what the layers and the campaigns counted last, with the commit of each: `make test-report`."""

from __future__ import annotations

import argparse

from tests.campaigns.__main__ import NAMES
from tests.campaigns.counts import commit, reports
from tests.run import LAYERS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make test-report", description=__doc__)
    parser.parse_args(arguments)
    found = reports()
    here = commit()
    for report in found:
        verdict = "FAILED" if report.failed else "ok"
        stale = "" if report.commit == here else f"  (at {report.commit or 'an unknown commit'}, this is {here})"
        print(
            f"{report.name:<22} {verdict:<7} {report.seconds:8.1f} s  {report.finished}  Python {report.python}{stale}"
        )
        for what, count in report.counts.items():
            shown = f"{count:,}" if isinstance(count, int) else f"{count:,.1f}" if isinstance(count, float) else count
            print(f"    {what:<54} {shown:>16}")
    known = [f"layer {name}" for name in LAYERS] + [name for name in NAMES if name != "report"]
    missing = [name for name in known if name not in {report.name for report in found}]
    if missing:
        print(f"\nNever run here: {', '.join(missing)}")
    return 0
