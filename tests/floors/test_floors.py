"""The house rules that a machine can check: includes and imports go downwards, files stay readable."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "intarraymap"
CORE = PACKAGE / "core" / "src"
FRONT_DOOR = "intarraymap.h"

if not CORE.is_dir():
    pytest.skip("THE SOURCES ARE NOT HERE: floors are checked in a checkout of the repository", allow_module_level=True)

#: Floor of every room of the core; a file may include from lower floors only. Rooms that DESIGN.md puts on one floor
#: but that build on each other have parts of a floor, in the order in which they do.
FLOORS = {
    "check": 0.0,
    "hash": 0.0,
    "alloc": 0.1,
    "lock": 0.1,
    "ops": 0.1,
    "poison": 0.1,
    "spare": 0.15,
    "segments": 0.2,
    "bucket": 1.0,
    "rows": 1.0,
    "direct": 2.0,
    "table": 2.0,
    "growth": 2.1,
    "map": 3.0,
    "pipeline": 3.1,
    "build": 3.2,
    "batch_read": 4.0,
    "batch_write": 4.0,
    "cursor": 4.0,
    "image": 4.0,
    "image_save": 4.1,
    "info": 4.0,
}
#: The two indexes never meet below the room that chooses between them.
INDEXES = ({"table", "growth"}, {"direct"})
#: Floors of the Python rooms; errors.py lies under all of them.
PYTHON_FLOORS = {
    "errors": 4.0,
    "_core": 4.1,
    "_exact": 4.2,
    "_failing": 4.2,
    "_flag": 4.2,
    "_gate": 4.2,
    "_mapped": 4.2,
    "_result": 4.2,
    "stats": 4.5,
    "times": 4.4,
    "sequences": 4.4,
    "coerce": 4.5,
    "equality": 4.5,
    "paths": 4.6,
    "_owner": 5.0,
    "_batch": 5.1,
    "_arrow": 5.1,
    "_producer": 5.2,
    "_cursor": 5.1,
    "_image": 5.1,
    "_binding": 5.2,
    "arrow": 5.3,
    "columns": 5.4,
    "frames": 5.4,
    "archive": 5.4,
    "views": 6.0,
    "batches": 6.0,
    "whole": 6.0,
    "exchange": 6.0,
    "pickling": 6.0,
    "mapping": 6.1,
    "files": 6.0,
    "convert": 7.0,
    "terminal": 4.0,
    "cli": 7.1,
    "__init__": 8.0,
    "__main__": 8.0,
}
LINES_MOST = 600
FUNCTION_LINES_MOST = 60  # the docstring apart
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

CORE_FILES = sorted([*CORE.glob("*.c"), *CORE.glob("*.h")])
PYTHON_FILES = sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*.pyx"), *PACKAGE.glob("*.pxd")])
ALL_FILES = sorted({*CORE_FILES, *PYTHON_FILES, PACKAGE / "core" / "include" / FRONT_DOOR, *PACKAGE.glob("*.pyi")})


def includes(file: Path, quotes: str = '""') -> list[str]:
    pattern = rf"^\s*#\s*include\s*{re.escape(quotes[0])}([^{re.escape(quotes[1])}]+){re.escape(quotes[1])}"
    return re.findall(pattern, file.read_text(), re.MULTILINE)


def without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", " ", text)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


def imports(file: Path) -> set[str]:
    """Rooms of this package that a file imports at run time, by any spelling, Cython's included."""
    text = file.read_text()
    if file.suffix in (".pyx", ".pxd"):
        found = set(re.findall(r"^\s*(?:from|cimport|import)\s+intarraymap\.(\w+)", text, re.MULTILINE))
        for line in re.findall(r"^\s*from\s+(?:intarraymap|\.)\s+c?import\s+([^\n(]+)", text, re.MULTILINE):
            found |= {name.split(" as ")[0].strip() for name in line.split(",")}
        return found | set(re.findall(r"^\s*from\s+\.(\w+)\s+c?import", text, re.MULTILINE))
    found = set()
    skipped = set()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= {id(inner) for child in node.body for inner in ast.walk(child)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0 and module.split(".")[0] != "intarraymap":
                continue
            inner = module if node.level else module.removeprefix("intarraymap").lstrip(".")
            found |= {inner.split(".")[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("intarraymap.")}
    return found


def test_there_is_something_to_check():
    assert len(CORE_FILES) > 10
    assert PACKAGE / "mapping.py" in PYTHON_FILES


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_includes_go_down(file):
    room = file.stem
    assert room in FLOORS, f"{file.name} is a new room: give it a floor here and in DESIGN.md"
    for name in includes(file):
        if name == FRONT_DOOR:
            continue  # its types and status codes are everybody's
        other = Path(name).stem
        assert "/" not in name, f"{file.name} includes {name}: rooms lie side by side"
        assert (CORE / name).is_file(), f"{file.name} includes {name}, which is no room"
        if other == room:
            continue
        assert FLOORS[other] < FLOORS[room], f"{file.name} (floor {FLOORS[room]}) looks up or across to {name}"


def reaches(file: Path, seen: set[str]) -> set[str]:
    """Rooms that a file sees through its includes, however deep."""
    for name in includes(file):
        if Path(name).stem not in seen and (CORE / name).is_file():
            seen.add(Path(name).stem)
            reaches(CORE / name, seen)
    return seen


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_the_two_indexes_never_meet(file):
    around = reaches(file, set()) | {file.stem}
    if all(around & rooms for rooms in INDEXES):
        assert FLOORS[file.stem] >= FLOORS["map"], f"{file.name} knows hash and direct: only map and what is above may"
    else:
        assert FLOORS[file.stem] < FLOORS["map"], f"{file.name} lies above map and does without it"


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_core_knows_nothing_of_the_world(file):
    """No Python, no printing, no files, no clock: nothing in C calls up or out."""
    for name in includes(file, "<>"):
        assert not name.startswith(("Python", "numpy", "cython")), name
        assert name not in ("sys/time.h", "dirent.h", "fcntl.h"), name
    code = without_comments(file.read_text())
    for word in (
        "printf",
        "fprintf",
        "puts",
        "fopen",
        "open",
        "clock_gettime",
        "time",
        "gettimeofday",
        "getenv",
        "rand",
        "exit",
    ):
        assert not re.search(rf"(?<![\w.>]){word}\s*\(", code), f"{file.name} calls {word}()"


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_core_has_no_process_wide_state(file):
    """No variable at file level that is not const: a map is all there is."""
    depth = 0
    for line in without_comments(file.read_text()).splitlines():
        if depth == 0 and not line.lstrip().startswith("#"):
            found = re.match(
                r"(?:static\s+|_Thread_local\s+|_Atomic\s+|volatile\s+)+(?!.*\bconst\b)[\w\s*]+?\w+(\[[^]]*\])?\s*(=|;)",
                line,
            )
            assert not found, f"{file.name}: {line.strip()}"
        depth += line.count("{") - line.count("}")


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_rooms_are_included_by_their_own_file(file):
    if file.suffix == ".c" and file.with_suffix(".h").is_file():
        assert f"{file.stem}.h" in includes(file)
    if file.suffix == ".h":
        assert re.search(r"#\s*(ifndef|pragma once)", file.read_text()), "an include guard"


def test_front_door_stands_alone():
    door = PACKAGE / "core" / "include" / FRONT_DOOR
    assert includes(door) == []
    assert set(includes(door, "<>")) <= {"stdbool.h", "stddef.h", "stdint.h"}


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: file.name)
def test_imports_go_down(file):
    assert file.stem in PYTHON_FLOORS, f"{file.name} is a new room: give it a floor here and in DESIGN.md"
    for other in imports(file):
        if other == file.stem:
            continue
        assert other in PYTHON_FLOORS, f"{file.name} imports {other}, which has no floor"
        assert PYTHON_FLOORS[other] < PYTHON_FLOORS[file.stem], f"{file.name} looks up or across to {other}"


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: file.name)
def test_binding_knows_the_front_door_only(file):
    for name in re.findall(r'cdef extern from "([^"]+)"', file.read_text()) + includes(file):
        assert name == FRONT_DOOR or not (CORE / Path(name).name).exists(), (
            f"{file.name} reaches behind the door: {name}"
        )


def test_setup_gives_the_binding_only_the_front_door():
    text = (ROOT / "setup.py").read_text()
    assert "core/include" in text
    assert not re.search(r"include_dirs\s*=\s*\[[^]]*core/src", text)


@pytest.mark.parametrize("file", [*CORE_FILES, *PYTHON_FILES], ids=lambda file: file.name)
def test_design_names_the_room(file):
    """The table of floors in DESIGN.md is the one people read."""
    design = (ROOT / "DESIGN.md").read_text()
    floors = design[design.index("\n## 3. Floors") :].split("\n## ")[1]
    assert re.search(rf"`{re.escape(file.stem)}(\.\w+)?`", floors), f"DESIGN.md, Floors: {file.stem} is missing"


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_no_file_is_too_long(file):
    count = len(file.read_text().splitlines())
    assert count <= LINES_MOST, f"{file.name} has {count} lines: split it by noun"


def function_lengths(file: Path) -> dict[str, int]:
    if file.suffix == ".py":
        lengths = {}
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lengths[node.name] = node.end_lineno - body[0].lineno + 1 if body else 0
        return lengths
    found = re.findall(r"(?ms)^[^\n]*?(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", file.read_text())
    return {name: len(body.splitlines()) for name, body in found}


@pytest.mark.parametrize("file", [*CORE_FILES, *PACKAGE.glob("*.py")], ids=lambda file: file.name)
def test_no_function_is_too_long(file):
    too_long = {name: length for name, length in function_lengths(file).items() if length > FUNCTION_LINES_MOST}
    assert not too_long


def test_functions_are_found():
    assert len(function_lengths(CORE / "map.c")) > 20
    assert len(function_lengths(PACKAGE / "coerce.py")) > 25


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_names(file):
    assert file.stem.lower().strip("_") not in FORBIDDEN_NAMES


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: file.name)
def test_every_room_says_which_it_is(file):
    """The header comment: which room this is."""
    assert re.match(rf"\s*/\*\s*{re.escape(file.name)}\b", file.read_text()), "begins with /* name: …"


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: file.name)
def test_init_has_no_logic(file):
    if file.name != "__init__.py":
        assert file.read_text().strip() or file.name == "py.typed"
        return
    for node in ast.parse(file.read_text()).body:
        assert isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)), ast.dump(node)
