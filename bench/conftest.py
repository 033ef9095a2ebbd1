"""`pytest bench`: the bench's own tests, and micro-benchmarks whose JSON is kept for comparison between commits."""

import warnings

import pytest

from bench.machine import ROOT, commit

STORAGE = ROOT / "build" / "bench" / "micro"


def pytest_configure(config):
    """Keeps the figures under build/bench/micro unless the command line says otherwise."""
    if not hasattr(config.option, "benchmark_autosave"):
        return  # pytest-benchmark is not installed: test_micro.py says so
    if config.option.benchmark_storage == "file://./.benchmarks":
        config.option.benchmark_storage = STORAGE.as_uri()
    kept = config.option.benchmark_autosave or config.option.benchmark_save or config.option.benchmark_json
    if not kept:
        config.option.benchmark_autosave = (commit() or "no-commit").replace(" ", "-")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish():
    """A run of the tests alone has nothing to keep, and that is no error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Not saving anything")
        return (yield)
