"""An opened file that another process changes in place: answers may be wrong, or OSError; nothing else may come of it.

SECURITY.md promises no more for mode "r". Each story opens a file whose bytes another process sets to zero and back, or
to noise and back, as fast as it can, and asks everything of the map meanwhile, in a child that must not crash.
"""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no map of ours there")

STORY = """
import os, subprocess, sys, tempfile, time
import numpy as np
from intarraymap import IntArrayMap
from intarraymap.files import file_info

INDEX, PART = CHOSEN
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "map.iam")
rng = np.random.default_rng(3)
keys = np.arange(40_000) if INDEX == "direct" else rng.integers(-2**62, 2**62, 40_000)
IntArrayMap.from_arrays(keys, np.ones((40_000, 2)), index=INDEX).save(path)
info = file_info(path)
at = 4096
for name in ("rows", "keys", "presence", "buckets", "overflow", "directory", "pages"):
    if name == PART:
        break
    at += -(-info["bytes_" + name] // 4096) * 4096
count = info["bytes_" + PART]
assert count > 0
CHANGE = f'''
import mmap, os, sys
import numpy as np
file = open({path!r}, "r+b")
part = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8, {count}, {at})
good = part.copy()
noise = np.random.default_rng(5).integers(0, 256, {count}, np.uint8)
print("ready", flush=True)
while True:
    for bad in (np.zeros_like(good), noise, np.where(noise % 16 == 0, noise, good)):
        part[:] = bad
        part[:] = good
'''
other = subprocess.Popen([sys.executable, "-c", CHANGE], stdout=subprocess.PIPE)
other.stdout.readline()

def quietly(call):
    try:
        call()
    except (ValueError, RuntimeError, OSError, KeyError, OverflowError, MemoryError):
        pass

def stream(m, copy):
    arrow_reader(m.to_arrow(copy=copy))

def arrow_reader(table):
    IntArrayMap.from_arrow(table)

m = IntArrayMap.open(path)
some = keys[::7]
other_map = IntArrayMap(2)
target = os.path.join(folder.name, "copy.iam")
calls = [
    lambda: stream(m, True), lambda: stream(m, False), lambda: stream(m, None), m._check, m.stats, lambda: list(m),
    lambda: IntArrayMap.load(path), lambda: m.save(target), lambda: m.get_many(some, 0), lambda: m.contains_many(some),
    lambda: m.index_many(some), m.to_arrays, m.blocks, lambda: list(m.scan()), lambda: list(reversed(m)),
    lambda: [m.get(int(key)) for key in some[:500]], m.copy, lambda: m == other_map, lambda: other_map.merge(m),
    lambda: list(m.items()), lambda: IntArrayMap.open(path, verify="full"), lambda: list(iter_long(m)),
]

def iter_long(m):
    steps = iter(m)
    for step in steps:
        steps.__length_hint__()
        yield step

try:
    end = time.monotonic() + SECONDS
    turns = 0
    while time.monotonic() < end or turns < 2:
        for call in calls:
            quietly(call)
        turns += 1
finally:
    other.kill()
    other.wait()
print(turns)
"""


@pytest.mark.parametrize(
    "index, part",
    [("hash", "presence"), ("hash", "buckets"), ("hash", "overflow"), ("hash", "keys"), ("direct", "presence")],
)
def test_everything_is_asked_meanwhile(run_child, index, part):
    """Arrow copies overran their memory; _check and load followed links out of the file."""
    assert int(run_child(STORY.replace("CHOSEN", repr((index, part))).replace("SECONDS", "2"), timeout=120)) >= 2
