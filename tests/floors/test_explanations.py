"""What is excused in writing is still there: mutants that may live, functions that the tests do not reach."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "intarraymap" / "core" / "src"

if not CORE.is_dir() or not (ROOT / "tests" / "campaigns").is_dir():
    pytest.skip("THE SOURCES ARE NOT HERE: explanations are checked in a checkout", allow_module_level=True)

sys.path.insert(0, str(ROOT))
try:
    from tests.campaigns._mutants import Mutant, mutants_of
    from tests.campaigns.coverage import explained
    from tests.campaigns.mutate import Explanation, explanations
finally:
    sys.path.remove(str(ROOT))

SOURCES = {path.name: path.read_text() for path in sorted(CORE.glob("*.[ch]"))}
EXPLANATIONS = explanations()
NOT_REACHED = [function for row in explained() for function in row.functions]


@pytest.fixture(scope="module")
def mutants() -> dict[str, list[Mutant]]:
    """All mutants of today's sources, by file."""
    return {name: mutants_of(name, source) for name, source in SOURCES.items()}


def name_of(explanation: Explanation) -> str:
    return f"{explanation.file}:{explanation.function}"


def test_there_is_something_to_check(mutants):
    assert len(EXPLANATIONS) > 50
    assert sum(map(len, mutants.values())) > 5000
    assert len(NOT_REACHED) > 40


@pytest.mark.parametrize("explanation", EXPLANATIONS, ids=name_of)
def test_a_mutant_that_may_live_is_one_that_can_be_made(explanation, mutants):
    assert any(map(explanation.matches, mutants.get(explanation.file, []))), (
        f"survivors.toml excuses a mutant that today's {explanation.file} does not have: {explanation}"
    )


@pytest.mark.parametrize("explanation", EXPLANATIONS, ids=name_of)
def test_a_reason_is_given(explanation):
    assert len(explanation.reason.split()) > 2
    assert explanation.after is None or explanation.before is not None


def test_no_mutant_is_excused_twice():
    changes = [(each.file, each.function, each.before, each.after) for each in EXPLANATIONS]
    assert sorted(map(str, set(changes))) == sorted(map(str, changes))


def test_no_function_is_in_two_rows():
    assert len(set(NOT_REACHED)) == len(NOT_REACHED)


@pytest.mark.parametrize(("file", "function"), sorted(NOT_REACHED))
def test_a_function_that_is_not_reached_is_there(file, function):
    assert file in SOURCES, f"DESIGN.md, section 16 names {file}"
    assert re.search(rf"^[\w ]+[ *]{function}\([^;{{]*\)\n\{{$", SOURCES[file], re.MULTILINE), (
        f"DESIGN.md, section 16: {file} defines no {function}"
    )
