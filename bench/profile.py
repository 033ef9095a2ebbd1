"""`python -m bench profile WORKLOAD`: where the time goes and where the memory goes, side by side.

Writes a native flame graph (py-spy --native, or perf where py-spy may not look) and memray's heap profiles (in use at
the peak, and all that was given back on the way) into one folder, with a page that shows them beside each other and
says how to read the two. The longer text is bench/PROFILES.md.
"""

import os
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

from .machine import ROOT, commit, processor
from .workload import SEGMENTS, WORKLOADS

NEVER = 2**31 - 1  # allocations between asking and giving back: whatever was given back counts
STYLE = """
:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem; }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); }
iframe, object { width: 100%; height: 75vh; border: 1px solid #8888; border-radius: 6px; background: #fff; }
li, p { max-width: 60rem; }
"""


def call(*command, segments=""):
    """`(whether it went well, what it said on standard error, shortened)`."""
    print("…", " ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {SEGMENTS: segments})
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return done.returncode == 0, "; ".join(lines[-3:])


def tool(name):
    """The path of a program: beside this Python, or on the path; None where it is not installed."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def child(name, seconds, key_count):
    return [sys.executable, "-m", "bench.workload", name, str(seconds), str(key_count)]


def flame_by_py_spy(folder, command):
    """`(file or None, word)`."""
    spy = tool("py-spy")
    if spy is None:
        return None, "py-spy is not installed"
    path = folder / "cpu.svg"
    options = ["record", "--native", "--rate", "500", "--format", "flamegraph", "--output", str(path)]
    went_well, said = call(spy, *options, "--", *command)
    if path.exists() and path.stat().st_size:
        return path, "py-spy --native, 500 samples a second"
    return None, f"py-spy may not look here ({said})" if not went_well else "py-spy saw nothing"


def flame_by_perf(folder, command):
    """perf's own report as text, where py-spy may not look: call chains, the largest first."""
    perf = tool("perf")
    if perf is None:
        return None, "perf is not installed"
    recorded = folder / "perf.data"
    went_well, said = call(perf, "record", "-g", "-F", "499", "-o", str(recorded), "--", *command)
    if not went_well:
        return None, f"perf may not look here ({said})"
    path = folder / "cpu.txt"
    told = subprocess.run([perf, "report", "-i", recorded, "--stdio", "--children"], capture_output=True, text=True)
    path.write_text(told.stdout)
    return path, "perf record -g"


def heap_by_memray(folder, command):
    """`([(title, file)], word)`: in use at the peak, and all that was given back."""
    try:
        import memray  # noqa: F401 (whether it is there)
    except ImportError as error:
        return [], f"memray is not installed ({error})"
    recorded = folder / "heap.bin"
    memray_command = [sys.executable, "-m", "memray"]
    # command is: python -m MODULE ARGUMENTS; memray runs the module itself.
    went_well, said = call(
        *memray_command, "run", "--native", "--force", "--output", recorded, *command[1:], segments="1"
    )
    if not went_well:
        return [], f"memray failed ({said})"
    graphs, wanted = (
        [],
        (
            ("In use at the peak", "heap-in-use.html", []),
            (
                "All allocations that were given back",
                "heap-all.html",
                ["--temporary-allocation-threshold", str(NEVER)],
            ),
        ),
    )
    for title, name, options in wanted:
        path = folder / name
        went_well, said = call(
            *memray_command, "flamegraph", "--no-web", "--force", *options, "--output", path, recorded
        )
        if went_well and path.exists():
            graphs.append((title, path))
    stats = folder / "heap.txt"
    told = subprocess.run([*memray_command, "stats", recorded], capture_output=True, text=True)
    stats.write_text(told.stdout)
    recorded.unlink()
    return graphs, "memray run --native" if graphs else f"memray drew nothing ({said})"


READING = """
<p>Two questions, two pictures. Left: <strong>where is time spent?</strong> A frame is as wide as the share of samples
that had it on the stack. Right: <strong>where does memory come from?</strong> A frame is as wide as the bytes asked for
below it. Neither knows of the other; reading them against each other is what says something:</p>
<ul>
<li><strong>Wide left, absent right</strong>: work that allocates nothing, as probing and copying rows should be. Here
<code>iam_map_get_many</code> and its neighbours belong: look there for cache misses, not for allocations.</li>
<li><strong>Wide left and wide in “given back”, narrow in “in use”</strong>: results made and dropped. The time on the
left is then page faults under <code>memset</code>, <code>memcpy</code> or the copy loop itself; <code>out=</code>
takes both away.</li>
<li><strong>Narrow left, wide in “in use”</strong>: what the map holds: rows, keys, buckets. It should be as wide as
<code>m.nbytes</code> says and hardly cost time; if it does cost time, <code>capacity=</code> or <code>reserve()</code>
moves that out of the way.</li>
<li><strong>Wide on all sides</strong>: something grows by copying. The map never does; a dict or an ndarray beside it
may.</li>
</ul>
<p>“In use” is the heap at its highest moment; “given back” is everything that was asked for and released until the end,
however long it was kept, so a batch result that is reused counts once and one that is made anew counts each time.
For these two the map keeps its arrays in segments and reserves no address space: memray counts what is mapped, and
would show gigabytes of addresses that were never touched. <code>python -m bench memory</code> counts what is
resident.</p>
"""


def page(name, about, flame, heaps, words):
    """The page that shows them side by side."""
    panes = []
    if flame is not None:
        panes.append(("Time (native stacks)", flame))
    panes += heaps
    shown = "".join(
        f'<section><h2>{escape(title)}</h2><p><a href="{path.name}">{path.name}</a></p>'
        f'<iframe src="{path.name}" title="{escape(title)}"></iframe></section>'
        for title, path in panes
    )
    said = "".join(f"<li>{escape(word)}</li>" for word in words)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}: time and memory</title><style>{STYLE}</style></head><body>
<h1>{escape(name)}: time and memory</h1><p>{escape(about)}</p>
{READING}<div class="pair">{shown}</div><ul>{said}</ul></body></html>
"""


def run(arguments):
    """`python -m bench profile WORKLOAD`."""
    if arguments.workload not in WORKLOADS:
        for name, work in WORKLOADS.items():
            print(f"{name:<16} {work.__doc__.splitlines()[0]}")
        return 0 if arguments.workload == "list" else 2
    name = arguments.workload
    folder = Path(arguments.folder or ROOT / "build" / "bench" / f"profile-{name}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = child(name, arguments.seconds, arguments.keys)
    flame, by = flame_by_py_spy(folder, command)
    words = [by]
    if flame is None:
        flame, by = flame_by_perf(folder, command)
        words.append(by)
    heaps, by = heap_by_memray(folder, command)
    words.append(by)
    about = f"{WORKLOADS[name].__doc__.splitlines()[0]} {arguments.keys:,} keys, {arguments.seconds:g} seconds, "
    about += f"commit {commit()}, {processor()}"
    path = folder / "index.html"
    path.write_text(page(name, about, flame, heaps, words))
    for word in words:
        print(word)
    print(os.path.relpath(path))
    return 0 if flame is not None and heaps else 1
