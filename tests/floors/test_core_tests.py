"""The lists that the C tests keep, held against what they are lists of: the front door and the numbered invariants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "src" / "intarraymap" / "core" / "include" / "intarraymap.h"
CORE_TESTS = ROOT / "tests" / "core"

if not HEADER.is_file() or not CORE_TESTS.is_dir():
    pytest.skip("THE SOURCES ARE NOT HERE: lists are compared in a checkout of the repository", allow_module_level=True)


def without_comments(source: str) -> str:
    return re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)


def front_door() -> set[str]:
    return set(re.findall(r"\b(iam_\w+)\(", without_comments(HEADER.read_text())))


def invariants() -> set[str]:
    """The numbers in the table of DESIGN.md, section 12."""
    design = (ROOT / "DESIGN.md").read_text()
    table = design[design.index("\n## 12. Invariants") :].split("\n## ")[1]
    first_cells = re.findall(r"^\| ([A-Z]\d(?:, [A-Z]\d)*) \|", table, flags=re.MULTILINE)
    return {number for cell in first_cells for number in cell.split(", ")}


def cases(name: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (CORE_TESTS / name).read_text()))


def test_every_function_of_the_front_door_is_refused_memory_or_asks_for_none():
    listed = cases("test_memory.c", r'(?m)^    \{"(iam_\w+)",\s')
    assert len(front_door()) > 50
    assert listed == front_door()


def bodies(source: str) -> dict[str, str]:
    """The functions of a C file."""
    return dict(re.findall(r"(?ms)^static [^\n;]*?\b(\w+)\([^\n]*\)\n\{\n(.*?)^\}", without_comments(source)))


def test_a_function_that_is_listed_is_called_where_the_list_says():
    source = (CORE_TESTS / "test_memory.c").read_text()
    functions = bodies(source)
    asks_none = "".join(body for name, body in functions.items() if name.startswith("test_") and "none" in name)
    listed = re.findall(r'(?m)^    \{"(iam_\w+)",\s*\{([^}]*)\}\}', source)
    assert len(listed) == len(front_door())
    for function, places in listed:
        for place in re.findall(r'"([^"]+)"', places):
            if place == "none":
                where = asks_none
            elif place.startswith("test_"):
                program = CORE_TESTS / f"{place}.c"
                where = program.read_text() if program.exists() else functions[place]
            else:
                continue  # an operation, whose name test_memory.c itself looks up
            assert re.search(rf"(?<!\")\b{function}\(", where), f"{function} is not called in {place}"


def test_every_function_of_the_front_door_is_called_by_a_c_test():
    called = {
        name
        for file in CORE_TESTS.glob("*.[ch]")
        for name in re.findall(r"(?<!\")\b(iam_\w+)\(", without_comments(file.read_text()))
    }
    assert front_door() <= called


def test_every_numbered_invariant_is_broken_on_purpose():
    numbers = invariants()
    assert len(numbers) >= 19
    assert cases("test_invariants.c", r'\{"([A-Z]\d)", make_\w+, \w+\}') == numbers


def test_every_numbered_invariant_is_called_by_its_number():
    """What a validator says begins with the number; S2 and others are looked for in the sources of the core."""
    sources = "".join(path.read_text() for path in sorted(HEADER.parents[1].glob("src/*.c")))
    assert set(re.findall(r'"([A-Z]\d): ', sources)) == invariants()
