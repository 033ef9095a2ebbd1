"""Inputs that the fuzzers of the Python surface have found (tests/fuzz): their corpus, and each that once crashed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from intarraymap import IntArrayMap

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tests" / "fuzz"
TARGETS = ("fuzz_coerce", "fuzz_files", "fuzz_python_ops")


def run(target: str, data: bytes) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        importlib.import_module(f"tests.fuzz.{target}").one_input(data)
    finally:
        sys.path.remove(str(ROOT))


def corpus(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((FUZZ / "corpus" / target).glob("[!.]*"))]


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_and_what_crashed_once(target):
    assert corpus(target), "a fuzzer has a corpus"
    for data in corpus(target):
        run(target, data)
    for path in sorted((FUZZ / "crashes" / target).glob("[!.]*")):
        print(path.name)  # shown if it fails
        run(target, path.read_bytes())


@pytest.mark.parametrize("name", ["scan", "items", "pop_many", "contains_many", "blocks", "to_arrays"])
def test_a_wrong_answer_is_noticed(monkeypatch, name):
    """By some input of the corpus. The model's own errors were once taken for documented ones of the map."""
    right = getattr(IntArrayMap, name)

    class Walk(list):
        """As good as items(), and as scan()."""

        __next__ = list.pop

    def wrong(m, *arguments):
        if name == "blocks":
            return right(m)[1:]
        if name in ("pop_many", "contains_many"):
            return right(m, *arguments)[1:]
        if name == "to_arrays":
            keys, rows = right(m)
            return np.append(keys, 2**40 + 1), np.append(rows, np.zeros((1, *m.row_shape), m.dtype), axis=0)
        return Walk([*right(m), (2**40 + 1, np.zeros(m.row_shape, m.dtype))])

    monkeypatch.setattr(IntArrayMap, name, wrong)
    noticed = 0
    for data in corpus("fuzz_python_ops"):
        try:
            run("fuzz_python_ops", data)
        except AssertionError:
            noticed += 1
    assert noticed


def test_an_empty_input_is_an_input():
    for target in TARGETS:
        run(target, b"")


def test_corpora_are_small():
    sizes = [path.stat().st_size for path in (FUZZ / "corpus").rglob("*") if path.is_file()]
    assert sum(sizes) < 200_000 and len(sizes) < 300
