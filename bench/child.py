"""Measuring in a fresh process: what one case leaves in memory must not show in the next."""

import json
import subprocess
import sys

from .machine import ROOT


def ask(module, *arguments, env=None):
    """Runs `python -m bench.<module> ARGUMENTS…` and returns the JSON it prints, or None with its error shown."""
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    print(f"… {module} {' '.join(map(str, arguments))}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env, cwd=ROOT)
    if done.returncode != 0:
        print(f"   failed with code {done.returncode}", file=sys.stderr, flush=True)
        return None
    return json.loads(done.stdout)


def contestant_named(name):
    """The class of that name among the map and the rivals that can be imported."""
    from .ours import map_contestant
    from .rivals import available

    if name == "IntArrayMap":
        return map_contestant()
    return next(cls for cls in available()[0] if cls.name == name)
