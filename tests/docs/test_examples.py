"""Every example that a reader can copy is run: in README.md, DESIGN.md and docstrings, the compiled module's too."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import intarraymap

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def collect() -> list[doctest.DocTest]:
    found: list[doctest.DocTest] = []
    for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md"):
        path = ROOT / name
        if path.exists():
            found.append(doctest.DocTestParser().get_doctest(path.read_text(), {}, name, str(path), 0))
    modules = [intarraymap]
    modules += [
        importlib.import_module(each.name) for each in pkgutil.iter_modules(intarraymap.__path__, "intarraymap.")
    ]
    for module in modules:
        names = {"intarraymap": intarraymap, "IntArrayMap": intarraymap.IntArrayMap}
        found += doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names)
    return [each for each in found if each.examples]


@pytest.mark.parametrize("example", collect(), ids=lambda each: each.name)
def test_example(example: doctest.DocTest) -> None:
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append)
    assert not results.failed, "".join(report)
