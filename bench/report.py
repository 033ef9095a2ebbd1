"""What a record looks like: in the terminal, as a page, and in the README."""

import sys
from pathlib import Path

from .page import page
from .record import load
from .sheets import all_sheets, everyone_sheet, name_of, spread, verdict
from .terminal import show


def say_outcome(outcome, stream=None):
    """One line as soon as a case is done."""
    ours, floor = outcome.map_and_floor()
    rival = outcome.best_rival()
    words = [f"  {name_of(outcome.case)}, {outcome.case.key_count:,} keys: map {spread(outcome.spread(ours))} ns"]
    if floor and ours:
        words.append(f"floor × {spread(outcome.ratio(ours, floor))}")
    if rival:
        ratio = f", ÷ map {spread(outcome.ratio(rival, ours))}" if ours else ""
        words.append(f"{rival} {spread(outcome.spread(rival))}{ratio}")
    reached = [outcome.reached(target) for target in outcome.case.targets]
    words += [verdict(one[1]).text for one in reached if one is not None]
    print(" · ".join(words), file=stream or sys.stdout, flush=True)


def say_finding(finding, stream=None):
    """One line as soon as something was measured."""
    met = verdict(finding.met()).text
    words = f"  {finding.who}: {finding.what}, {finding.keys:,} keys: {finding.value:.4g} {finding.unit} {met}"
    print(words.rstrip(), file=stream or sys.stdout, flush=True)


def show_record(record, everyone=False, stream=None):
    """Every table; the claims come last, where a terminal stops."""
    first, *others = all_sheets(record)
    for sheet in others:
        show(sheet, stream)
    if everyone:
        show(everyone_sheet(record.outcomes), stream)
    if first.rows:
        show(first, stream)
    for words in record.wrong:
        print(words, file=stream or sys.stdout)


def write_page(record, path):
    """The HTML page."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page(record))


def run(arguments):
    """`python -m bench report JSON`."""
    record = load(arguments.record)
    show_record(record, arguments.everyone)
    html = arguments.html or str(Path(arguments.record).with_suffix(".html"))
    write_page(record, html)
    print(f"\n{html}")
    if not arguments.no_readme:
        from .readme import rewrite

        rewrite(record)
        print("README.md: figures rewritten")
    return 1 if record.wrong else 0
