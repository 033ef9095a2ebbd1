"""Measuring in a fresh process: what one case leaves in memory must not show in the next."""

import json
import subprocess
import sys

from .machine import ROOT

failures: list[str] = []  # children that ended badly; the suite takes them into its record


def ask(module, *arguments, env=None):
    """Runs `python -m bench.<module> ARGUMENTS…` and returns the JSON it prints, or None with its error shown."""
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    print(f"… {module} {' '.join(map(str, arguments))}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env, cwd=ROOT)
    if done.returncode != 0:
        failures.append(f"FAILED: {' '.join(command[2:])} ended with code {done.returncode}")
        print(f"   failed with code {done.returncode}", file=sys.stderr, flush=True)
        return None
    return json.loads(done.stdout)


def contestant_named(name):
    """The class of that name among the map and the rivals that can be imported."""
    from .ours import map_contestant
    from .rivals import makers

    if name == "IntArrayMap":
        return map_contestant()
    for make in makers():  # one after the other: nobody is imported who is not needed
        try:
            for cls in make():
                if cls.name == name:
                    return cls
        except ImportError:
            pass
    raise LookupError(f"no contestant is called {name}")
