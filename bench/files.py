"""Files: `python -m bench files`. Save, load, open; lookups in a mapped map against one in memory; shared pages.

Everyone writes the same rows to the same folder and syncs the file; what is loaded must answer a first lookup. All play
every round, in rotating order; figures are medians with (min–max). Files are in the page cache when they are read.
"""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from intarraymap import IntArrayMap

from .report import spread

ROW_ITEMS = 8
QUERIES = 1_000_000


def synced(path, write):
    """Writes a file and has it put on the disk, as save does."""
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


class Ours:
    name = "IntArrayMap"

    def __init__(self, keys, rows, folder):
        self.map, self.path = IntArrayMap.from_arrays(keys, rows), folder / "map.iam"

    def save(self):
        self.map.save(self.path)

    def load(self, key):
        return IntArrayMap.load(self.path)[key]

    def open(self, key):
        return IntArrayMap.open(self.path)[key]

    def open_checked(self, key):
        return IntArrayMap.open(self.path, verify="full")[key]


class Npz:
    """np.savez; to look anything up, pandas makes an index of the keys."""

    name = "np.savez + pandas"

    def __init__(self, keys, rows, folder):
        self.keys, self.rows, self.path = keys, rows, folder / "map.npz"

    def save(self):
        synced(self.path, lambda file: np.savez(file, keys=self.keys, rows=self.rows))

    def load(self, key):
        import pandas as pd

        with np.load(self.path) as arrays:
            keys, rows = arrays["keys"], arrays["rows"]
        return rows[pd.Index(keys).get_loc(key)]


class Memmap:
    """np.save of rows and keys; rows are mapped, the index is made anew."""

    name = "memmap + pandas"

    def __init__(self, keys, rows, folder):
        self.keys, self.rows, self.path = keys, rows, folder / "rows.npy"
        self.key_path = folder / "keys.npy"

    def save(self):
        synced(self.path, lambda file: np.save(file, self.rows))
        synced(self.key_path, lambda file: np.save(file, self.keys))

    def open(self, key):
        import pandas as pd

        index = pd.Index(np.load(self.key_path))
        return np.load(self.path, mmap_mode="r")[index.get_loc(key)]


class Pickle:
    name = "pickle of a dict"

    def __init__(self, keys, rows, folder):
        self.dict = {key: row.copy() for key, row in zip(keys.tolist(), rows, strict=True)}
        self.path = folder / "map.pickle"

    def save(self):
        synced(self.path, lambda file: pickle.dump(self.dict, file, 5))

    def load(self, key):
        with open(self.path, "rb") as file:
            return pickle.load(file)[key]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def play(verb, players, rounds, *arguments):
    """Interleaved: {name: [seconds, …]}."""
    able = [player for player in players if hasattr(player, verb)]
    times = {player.name: [] for player in able}
    for turn in range(rounds):
        for place in range(len(able)):
            player = able[(turn + place) % len(able)]
            times[player.name].append(seconds(lambda player=player: getattr(player, verb)(*arguments)))
    return times


def show(what, unit, times, scale, found):
    for name, taken in times.items():
        scaled = [each * scale for each in taken]
        three = (statistics.median(scaled), min(scaled), max(scaled))
        print(f"{what:28} {name:20} {spread(three):>28} {unit}", flush=True)
        found.append({"what": what, "who": name, "unit": unit, "median": three[0], "min": three[1], "max": three[2]})


def lookups(ours, keys, rounds, found):
    """ns a key: in memory, mapped and warm, and np.take at known positions from a mapped file."""
    queries = np.random.default_rng(3).choice(keys, QUERIES)
    opened = IntArrayMap.open(ours.path)
    rows = opened.blocks()[0][2]
    numbers = opened.index_many(queries)
    assert np.array_equal(opened.get_many(queries), ours.map.get_many(queries)), "WRONG ANSWER"
    out = np.empty((len(queries), ROW_ITEMS))
    works = {
        "in memory": lambda: ours.map.get_many(queries, out=out),
        "mapped": lambda: opened.get_many(queries, out=out),
        "np.take, known places": lambda: np.take(rows, numbers, axis=0, out=out, mode="clip"),
    }
    times = {name: [] for name in works}
    for turn in range(rounds * 3):
        for place in range(len(works)):
            name = list(works)[(turn + place) % len(works)]
            times[name].append(seconds(works[name]))
    show("get_many(out=), warm", "ns a key", times, 1e9 / len(queries), found)


READER = """
import sys
from pathlib import Path
from intarraymap import IntArrayMap
m = IntArrayMap.open(sys.argv[1])
m.get_many(m.to_arrays()[0])
print("read", flush=True)
sys.stdin.readline()
here, counts = False, {"Rss": 0, "Pss": 0}
for line in Path("/proc/self/smaps").read_text().splitlines():
    words = line.split()
    if "-" in words[0] and not words[0].endswith(":"):
        here = line.endswith(sys.argv[1])
    elif here and words[0][:-1] in counts:
        counts[words[0][:-1]] += int(words[1])
print(counts["Rss"], counts["Pss"], flush=True)
sys.stdin.readline()
"""


def sharing(path, found):
    """Two processes read all of one file: what each maps, and its share of it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READER, str(path)], **pipes) for _ in range(2)]
    for reader in readers:
        reader.stdout.readline()
    total = [0, 0]
    for reader in readers:
        reader.stdin.write("\n")
        reader.stdin.flush()
        total = [a + int(b) for a, b in zip(total, reader.stdout.readline().split(), strict=True)]
    for reader in readers:
        reader.communicate("\n")
    size = path.stat().st_size / 1e6
    mapped, taken = (kilobytes / 1e3 for kilobytes in total)
    print(f"two readers of {size:.1f} MB: {mapped:.1f} MB mapped in all, {taken:.1f} MB of memory in all")
    found.append({"what": "two readers", "file_mb": size, "rss_mb": mapped, "pss_mb": taken})


def run(arguments):
    rounds = arguments.rounds or 5
    found = []
    for count in arguments.keys or [1_000_000]:
        rng = np.random.default_rng(1)
        keys = rng.choice(2**62, count, replace=False) * 2 - 2**62
        rows = rng.random((count, ROW_ITEMS))
        key = keys[count // 2].item()
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = Path(name)
            print(f"{count:,} keys, rows of {ROW_ITEMS} float64, {rounds} rounds, in {folder.parent}")
            players = [make(keys, rows, folder) for make in (Ours, Npz, Memmap, Pickle)]
            show("save, synced", "ms", play("save", players, rounds), 1e3, found)
            show("load to first lookup", "ms", play("load", players, rounds, key), 1e3, found)
            show("open to first lookup", "ms", play("open", players, rounds, key), 1e3, found)
            show("open, every byte checked", "ms", play("open_checked", players, rounds, key), 1e3, found)
            lookups(players[0], keys, rounds, found)
            sharing(players[0].path, found)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2))
    return 0


def register(commands):
    """The command `files`."""
    parser = commands.add_parser("files", help="save, load, open; mapped lookups; two processes on one file")
    parser.add_argument("--keys", nargs="+", type=int, metavar="COUNT", help="(1000000)")
    parser.add_argument("--rounds", type=int, metavar="COUNT", help="interleaved rounds (5)")
    parser.add_argument("--folder", metavar="FOLDER", help="where the files go, for instance a RAM disk")
    parser.add_argument("--json", metavar="FILE")
    parser.set_defaults(do=run)
