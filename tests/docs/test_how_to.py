"""Every example of docs/how-to is run, section by section, each in a folder of its own.

A section stands by itself but for the imports at the top of its page. One that uses a package that is optional says so
in a comment, <!-- needs: duckdb, IntArrayMap.open -->, or at the top of the page for all of it; it is skipped, loudly,
where that is missing.
"""

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarraymap import IntArrayMap

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "how-to").glob("*.md"))
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NEEDS = re.compile(r"<!-- needs: (.*?) -->")


def sections() -> list[Any]:
    """Parameters (name, text, what it needs)."""
    found = []
    for page in PAGES:
        parts = re.split(r"^(?=## )", page.read_text(), flags=re.MULTILINE)
        everywhere = NEEDS.findall(parts[0])
        for part in parts:
            needs = ", ".join([*everywhere, *NEEDS.findall(part)])
            name = f"{page.stem}: {part.splitlines()[0].lstrip('# ')}"
            if ">>>" in part:
                found.append(pytest.param(name, part, [need for need in needs.split(", ") if need], id=name))
    return found


def is_missing(need: str) -> bool:
    if need.startswith("IntArrayMap."):
        return not hasattr(IntArrayMap, need.removeprefix("IntArrayMap."))
    return importlib.util.find_spec(need) is None


def test_there_are_pages() -> None:
    assert len(PAGES) >= 9
    index = (PAGES[0].parent / "README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name})" in index, f"{page.name} is not in the list of pages"


@pytest.mark.parametrize("name, text, needs", sections())
def test_section(name: str, text: str, needs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [need for need in needs if is_missing(need)]
    if missing:
        pytest.skip(f"{', '.join(missing).upper()} IS MISSING: {name} IS NOT RUN")
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "IntArrayMap": IntArrayMap, "__name__": "__how_to__"}
    example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append)
    assert not results.failed, "".join(report)
    assert results.attempted
