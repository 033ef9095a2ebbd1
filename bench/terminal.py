"""Sheets in the terminal: by rich where it is installed, as plain columns where not."""

import sys

from .sheets import LOSS, WIN

STYLES = {WIN: "green", LOSS: "bold red"}
WIDE = 220  # columns of a file or pipe


def show(sheet, stream=None):
    """Prints one sheet."""
    stream = stream or sys.stdout
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return show_plain(sheet, stream)
    table = Table(title=sheet.title, title_justify="left", title_style="bold", caption=sheet.note or None)
    table.caption_justify = "left"
    for place, heading in enumerate(sheet.headings):
        table.add_column(heading, overflow="fold", justify="left" if place == 0 else None)
    for row in sheet.rows:
        table.add_row(*(Text(cell.text, STYLES.get(cell.verdict, "")) for cell in row))
    is_terminal = hasattr(stream, "isatty") and stream.isatty()
    Console(file=stream, width=None if is_terminal else WIDE).print("\n", table, sep="")
    return None


def show_plain(sheet, stream):
    """Columns as wide as they need to be."""
    print(f"\n{sheet.title}\n", file=stream)
    cells = [sheet.headings, *([cell.text for cell in row] for row in sheet.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(sheet.headings))]
    for number, row in enumerate(cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=stream)
        if number == 0:
            print("  ".join("-" * width for width in widths), file=stream)
    if sheet.note:
        print(f"({sheet.note})", file=stream)
