"""What the command line shows: tables, bars, progress. With rich it looks nicer; without it it says the same.

Lies under all Python floors: imports nothing of ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["bar", "bytes_text", "progress_bar", "show_table"]

EIGHTHS = " ▏▎▍▌▋▊▉"


def bytes_text(count: int) -> str:
    """A count of bytes for people.

    >>> bytes_text(999), bytes_text(64_000_000)
    ('999 B', '64.0 MB')
    """
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size:.0f} TB"


def bar(share: float, width: int = 30) -> str:
    """A bar, `share` of `width` characters long.

    >>> bar(0.5, 4)
    '██'
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if not _can_show("█▏"):
        return "#" * round(eighths / 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _is_for_people(stream: Any) -> bool:
    return bool(stream.isatty())


def _rich(room: str) -> Any:
    """A module of rich, or None where it is not installed."""
    try:
        return import_module(f"rich.{room}")
    except ImportError:
        return None


def show_table(title: str, rows: Sequence[Sequence[str]], headers: Sequence[str] = ()) -> None:
    """Rows of words under a title; the first column is to the left, the others to the right."""
    tables = _rich("table")
    if tables is not None and _is_for_people(sys.stdout):
        escape = _rich("markup").escape
        table = tables.Table(show_header=bool(headers), box=None, pad_edge=False)
        for place in range(max(len(row) for row in [headers, *rows])):
            name = headers[place] if place < len(headers) else ""
            table.add_column(escape(name), justify="left" if place == 0 or not headers else "right")
        for row in rows:
            table.add_row(*[escape(word) for word in row])
        console = _rich("console").Console(highlight=False)
        console.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
        console.print(table)
        return
    print(title)
    lines = [headers, *rows] if headers else list(rows)
    widths = [max(len(line[place]) for line in lines if place < len(line)) for place in range(max(map(len, lines)))]
    for line in lines:
        words = [
            word.ljust(width) if place == 0 or not headers else word.rjust(width)
            for place, (word, width) in enumerate(zip(line, widths, strict=False))
        ]
        print("  " + "  ".join(words).rstrip())


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (done, total). Shown on the error stream, and only to people."""
    if not _is_for_people(sys.stderr):
        yield lambda done, total: None
        return
    bars = _rich("progress")
    if bars is None:
        yield _plain_progress(label)
        print(file=sys.stderr)
        return
    with bars.Progress(console=_rich("console").Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _plain_progress(label: str) -> Callable[[int, int], None]:
    last = [0.0]

    def tell(done: int, total: int) -> None:
        if done < total and time.monotonic() - last[0] < 0.1:
            return
        last[0] = time.monotonic()
        print(f"\r{label} {100 * done // max(total, 1):3} %", end="", file=sys.stderr, flush=True)

    return tell
