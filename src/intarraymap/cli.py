"""The command line: ``intarraymap`` and ``python -m intarraymap``.

Exit codes: 0 = done, 1 = a file is damaged, missing or can't be written, 2 = the command was not understood,
130 = Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from intarraymap import convert
from intarraymap._image import fill
from intarraymap.files import file_info
from intarraymap.mapping import IntArrayMap
from intarraymap.terminal import bar, bytes_text, progress_bar, show_table

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        return 2
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us is gone: say no more
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, ImportError) as error:
        print(f"intarraymap: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    about = "Look at, check and convert files of IntArrayMaps."
    parser = argparse.ArgumentParser(prog="intarraymap", description=about)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('intarraymap')}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    info = commands.add_parser("info", help="what is in an image: sizes, index, how full it is")
    info.add_argument("file", metavar="FILE")
    info.add_argument("--json", action="store_true", help="for programs")
    info.set_defaults(run=_info)
    verify = commands.add_parser("verify", help="check every byte of an image; exit code 1 if it is damaged")
    verify.add_argument("file", metavar="FILE")
    verify.set_defaults(run=_verify)
    change = commands.add_parser(
        "convert", help="one format to another, by the ends of the names: " + " ".join(convert.FORMATS)
    )
    change.add_argument("source", metavar="IN")
    change.add_argument("target", metavar="OUT")
    change.set_defaults(run=_convert)
    demo = commands.add_parser("demo", help="half a minute to get to know it, on made-up data")
    demo.set_defaults(run=_demo)
    bench = commands.add_parser("bench", help="ten seconds against a dict; how to run the whole bench")
    bench.add_argument("--keys", type=int, default=100_000, help="how many keys (default 100000)")
    bench.set_defaults(run=_bench)
    return parser


# ---- info and verify ------------------------------------------------------------------------------------------------


def _facts(path: str) -> dict[str, Any]:
    """What `info` tells, for programs."""
    sections = file_info(path)
    m: IntArrayMap[Any] = IntArrayMap.open(path)
    with m:
        stats = m.stats()
        facts: dict[str, Any] = {
            "path": path,
            "version": sections.pop("version"),
            "keys": stats.count,
            "row_shape": list(m.row_shape),
            "dtype": m.dtype.str,
            "row_bytes": m.dtype.itemsize * math.prod(m.row_shape),
            "index": m.index,
            "bytes": sections,
            "fill": fill(m),
        }
        if m.index == "hash":
            names = ["bucket_count", "overflow_count", "load", "longest_chain"]
        else:
            names = ["page_count", "page_rows", "rows_used"]
        facts |= {name: getattr(stats, name) for name in names}
    return facts


def _info(arguments: argparse.Namespace) -> int:
    facts = _facts(arguments.file)
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    sections = facts["bytes"]
    rows = [
        ["keys", f"{facts['keys']:,}"],
        ["rows", f"{tuple(facts['row_shape'])} {np.dtype(facts['dtype'])}, {facts['row_bytes']:,} bytes each"],
    ]
    if facts["index"] == "hash":
        about = f"{facts['bucket_count']:,} buckets, {facts['overflow_count']:,} overflow buckets"
        rows.append(["index", f"hash: {about}, {facts['load']:.2f} keys a bucket"])
    else:
        rows.append(["index", f"direct: {facts['page_count']:,} pages of {facts['page_rows']:,} rows"])
    parts = {name.removeprefix("bytes_"): count for name, count in sections.items() if name != "file_bytes" and count}
    rows.append(["file", bytes_text(sections["file_bytes"])])
    rows += [["  " + name, bytes_text(count)] for name, count in parts.items()]
    show_table(f"{facts['path']}: image of an IntArrayMap, version {facts['version']}", rows)
    _show_fill(facts)
    return 0


def _show_fill(facts: dict[str, Any]) -> None:
    """A small picture of how full the index is."""
    counts = facts["fill"]
    total = sum(counts)
    if total == 0:
        return
    top = max(place for place, count in enumerate(counts) if count) + 1
    if facts["index"] == "hash":
        title = "buckets by keys in them (8 slots, then overflow)"
        bins = [(str(place), counts[place]) for place in range(top)]
    else:
        title = "pages by how full they are"
        bins = [(f"{place * 100 // 8:3} %", sum(counts[place * 4 : place * 4 + 4])) for place in range(8)]
        bins.append(("100 %", counts[32]))
    most = max(count for _, count in bins)
    show_table(title, [[name.rjust(5), f"{100 * count / total:5.1f} %", bar(count / most)] for name, count in bins])


def _verify(arguments: argparse.Namespace) -> int:
    m: IntArrayMap[Any] = IntArrayMap.open(arguments.file, verify="full")
    with m:
        print(f"{arguments.file}: whole: {len(m):,} keys, every checksum and the index are right")
    return 0


# ---- convert --------------------------------------------------------------------------------------------------------


def _convert(arguments: argparse.Namespace) -> int:
    with progress_bar("writing") as tell:
        m = convert.convert(arguments.source, arguments.target, tell)
    size = bytes_text(os.stat(arguments.target).st_size)
    print(f"{arguments.target}: {len(m):,} keys, rows {m.row_shape} {m.dtype}, {size}")
    return 0


# ---- demo and bench -------------------------------------------------------------------------------------------------


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _demo(_: argparse.Namespace) -> int:
    """Sums and counts by a key, made-up: shops far apart, each with takings and visitors."""
    rng = np.random.default_rng(7)
    shops = rng.choice(2**60, 1000, replace=False)
    visits = shops[rng.integers(0, len(shops), 300_000)]
    takings = np.column_stack([rng.exponential(20.0, len(visits)).round(2), np.ones(len(visits))])
    sales = IntArrayMap(2)
    seconds = _timed(lambda: sales.add_many(visits, takings))
    plain: dict[int, Any] = {}

    def by_hand() -> None:
        for shop, row in zip(visits.tolist(), takings, strict=True):
            if shop in plain:
                plain[shop] += row
            else:
                plain[shop] = row.copy()

    slow = _timed(by_hand)
    best = max(sales, key=lambda shop: sales[shop][0])
    print("300,000 sales in 1,000 shops with numbers of 60 bits: takings and visitors by shop.")
    print()
    print("    sales = IntArrayMap(2)")
    print("    sales.add_many(visits, takings)")
    print()
    print(f"{seconds * 1e3:,.1f} ms; a dict of arrays takes {slow * 1e3:,.0f} ms and agrees: {_agree(sales, plain)}.")
    print(f"Best shop: sales[{best}] = {sales[best]}, a live view: writing to it changes the map.")
    print(f"{len(sales):,} keys, {bytes_text(sales.nbytes)}, {sales.index} index.")
    print("Next: m.save(path), IntArrayMap.open(path); the README has the rest.")
    return 0


def _agree(m: IntArrayMap[Any], plain: dict[int, Any]) -> bool:
    return len(m) == len(plain) and all(np.allclose(m[key], row) for key, row in plain.items())


def _bench(arguments: argparse.Namespace) -> int:
    count = arguments.keys
    if not 1 <= count <= 10_000_000:
        raise ValueError(f"--keys {count}: between 1 and 10,000,000")
    rng = np.random.default_rng(1)
    keys = rng.integers(-(2**62), 2**62, count)
    rows = rng.random((count, 8))
    queries = keys[rng.integers(0, count, count)]
    asked = queries.tolist()
    ours: IntArrayMap[Any] = IntArrayMap.from_arrays(keys, rows)
    theirs: dict[int, Any] = {}
    works: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (
            "build",
            lambda: IntArrayMap.from_arrays(keys, rows),
            lambda: theirs.update(zip(keys.tolist(), (row.copy() for row in rows), strict=True)),
        ),
        ("get rows", lambda: ours.get_many(queries), lambda: np.array([theirs[key] for key in asked])),
        ("contains", lambda: ours.contains_many(queries), lambda: np.array([key in theirs for key in asked])),
    ]
    lines = []
    deadline = time.monotonic() + 10
    for name, mine, other in works:
        fast, slow = _timed(mine), _timed(other)
        for _ in range(4):
            if time.monotonic() > deadline:
                break
            fast, slow = min(fast, _timed(mine)), min(slow, _timed(other))
        lines.append([name, f"{fast / count * 1e9:,.0f}", f"{slow / count * 1e9:,.0f}", f"{slow / fast:,.0f} ×"])
    show_table(f"{count:,} keys, rows of 8 float64, ns a key", lines, ["", "IntArrayMap", "dict of arrays", "ratio"])
    print("A first look, on this machine as busy as it is. The whole bench, with pandas, numba, polars and the floor:")
    print("from a checkout of the repository, `make bench` or `python -m bench run`.")
    return 0
