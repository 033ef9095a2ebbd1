"""Inputs that the fuzzers of the Python surface have found (tests/fuzz): their corpus, and each that once crashed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tests" / "fuzz"
TARGETS = ("fuzz_coerce", "fuzz_files", "fuzz_python_ops")


def run(target: str, data: bytes) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        importlib.import_module(f"tests.fuzz.{target}").one_input(data)
    finally:
        sys.path.remove(str(ROOT))


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target):
    paths = sorted((FUZZ / "corpus" / target).glob("[!.]*"))
    assert paths, "a fuzzer has a corpus"
    for path in paths:
        run(target, path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_what_crashed_once(target):
    for path in sorted((FUZZ / "crashes" / target).glob("[!.]*")):
        print(path.name)  # shown if it fails
        run(target, path.read_bytes())


def test_an_empty_input_is_an_input():
    for target in TARGETS:
        run(target, b"")


def test_corpora_are_small():
    sizes = [path.stat().st_size for path in (FUZZ / "corpus").rglob("*") if path.is_file()]
    assert sum(sizes) < 200_000 and len(sizes) < 300
