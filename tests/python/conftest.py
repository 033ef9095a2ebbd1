"""Factories, Hypothesis profiles, and a bound on the time of every test.

`make_map` and `make_case` are parametrised: every test that takes one of them sees every kind of map (model.KINDS):
hash, direct, auto, in the middle of growth, sparse after it was dense, on segments instead of reserved address space,
out of a mapped file, all keys in few buckets or in one chain, and (make_case only, since it brings rows of its own) on
the way from direct to hash. Each map made is validated when the test is over.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings

sys.path.insert(0, str(Path(__file__).parent))

from model import ANY_KEY_KINDS, EXACT_KINDS, KINDS, build_case, build_map

COMMON = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "verbosity": Verbosity.normal,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
# A failure says how to reproduce it; making it smaller (up to five minutes a test) is left to the deep profile.
UNSHRUNK = (Phase.explicit, Phase.generate, Phase.target)
settings.register_profile("quick", max_examples=25, stateful_step_count=30, derandomize=True, phases=UNSHRUNK, **COMMON)
EXAMPLES = int(os.environ.get("INTARRAYMAP_EXAMPLES", "1000"))
settings.register_profile("deep", max_examples=EXAMPLES, stateful_step_count=80, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

#: No test may take longer than this: a hang is a failure with a traceback, not a night lost.
SECONDS_PER_TEST = int(os.environ.get("INTARRAYMAP_SECONDS_PER_TEST", "480"))
_stderr = None


def pytest_configure(config: pytest.Config) -> None:
    global _stderr
    _stderr = os.fdopen(os.dup(2), "w")


def pytest_unconfigure(config: pytest.Config) -> None:
    _stderr.close()


@pytest.fixture(autouse=True)
def bounded_time():
    faulthandler.dump_traceback_later(SECONDS_PER_TEST, exit=True, file=_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


class Factory:
    """Builds maps of one kind and remembers them, to validate them at the end."""

    def __init__(self, kind: str, build) -> None:
        self.kind = kind
        self.traits = KINDS[kind]
        self._build = build
        self._made = []

    def __call__(self, *args, **kwargs):
        made = self._build(self.kind, *args, **kwargs)
        self._made.append(made)
        return made

    def check(self) -> None:
        for made in self._made:
            m = getattr(made, "map", made)
            try:
                len(m)
            except ValueError:  # the test closed it
                continue
            assert m._check() is None


def _factory(kind: str, build):
    factory = Factory(kind, build)
    yield factory
    factory.check()


@pytest.fixture(params=EXACT_KINDS)
def make_map(request):
    """make_map(row_shape=(3,), dtype="float64", keys=(), rows=None, **arguments): exactly these rows."""
    yield from _factory(request.param, build_map)


@pytest.fixture(params=ANY_KEY_KINDS)
def make_any_key_map(request):
    """As make_map, without the kinds that refuse keys far apart."""
    yield from _factory(request.param, build_map)


@pytest.fixture(params=list(KINDS))
def make_case(request):
    """make_case(row_shape=(3,), dtype="float64", count=None): .map with keys 0 … count − 1 (build_case), .model too."""
    yield from _factory(request.param, build_case)


@pytest.fixture(params=list(KINDS))
def kind(request) -> str:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item):
    """Where each test runs in several threads at a time, they share its fixtures."""
    if "tmp_path" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.thread_unsafe(reason="its threads would write to one folder"))


@pytest.fixture
def run_child():
    """run_child(code, timeout=60, **environment) -> stdout: in a fresh process, which may neither hang nor crash."""

    def run(code: str, timeout: int = 60, **environment: str) -> str:
        timeout = max(timeout, int(os.environ.get("INTARRAYMAP_SECONDS_PER_TEST", "0")) // 4)  # sanitizers are slow
        head = f"import faulthandler; faulthandler.dump_traceback_later({timeout - 5}, exit=True)\n"
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        child = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", head + textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            start_new_session=True,
        )
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            pytest.fail(f"the child hangs\n{out}\n{err}")
        assert child.returncode == 0, f"the child ended with {child.returncode}\n{out}\n{err}"
        return out

    return run
