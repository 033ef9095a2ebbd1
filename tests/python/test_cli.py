"""The command line: what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from model import DTYPES, rows_for

import intarraymap
from intarraymap import IntArrayMap, cli, convert, terminal

FAR = [5, -7, 2**40, 2**62, -(2**63), 2**63 - 1]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "map.iam"
    keys = np.random.default_rng(1).choice(2**60, 1000, replace=False)
    IntArrayMap.from_arrays(keys, rows_for(1000)).save(path)
    return str(path)


@pytest.fixture
def run(capsys):
    """run(*words) -> (exit code, out, err)."""

    def call(*words):
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture(params=["rich", "plain"])
def looks(request, monkeypatch):
    """With rich and without it."""
    if request.param == "plain":
        monkeypatch.setattr(terminal, "_rich", lambda room: None)
    else:
        pytest.importorskip("rich")
        monkeypatch.setattr(terminal, "_is_for_people", lambda stream: True)
    return request.param


def test_info(path, run, looks):
    code, out, err = run("info", path)
    assert (code, err) == (0, "")
    for words in ("1,000", "(3,) float64", "24 bytes", "hash", "154 buckets", "version 1", "rows", "keys", "checksums"):
        assert words in out
    assert "█" in out or "#" in out


def test_info_for_programs(path, run):
    code, out, _ = run("info", path, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["keys"], facts["row_shape"], facts["dtype"], facts["index"]) == (1000, [3], "<f8", "hash")
    assert facts["bytes"]["file_bytes"] == os.stat(path).st_size
    assert sum(facts["fill"]) == facts["bucket_count"]
    assert sum(place * count for place, count in enumerate(facts["fill"])) == 1000


def test_info_of_a_direct_map_and_an_empty_one(tmp_path, run):
    target = tmp_path / "direct.iam"
    IntArrayMap.fromkeys(range(5000), [0.0]).save(target)
    code, out, _ = run("info", target)
    assert code == 0 and "direct" in out and "100 %" in out
    facts = json.loads(run("info", "--json", target)[1])
    assert facts["index"] == "direct" and sum(facts["fill"]) == facts["page_count"]
    IntArrayMap(2).save(target)
    assert run("info", target)[0] == 0


def test_verify(path, run):
    code, out, _ = run("verify", path)
    assert code == 0 and "1,000 keys" in out
    with open(path, "rb+") as file:
        file.seek(5000)
        file.write(b"x")
    code, out, err = run("verify", path)
    assert code == 1 and out == "" and "damaged" in err and path in err
    assert run("info", path)[0] == 0  # the header is whole


@pytest.mark.parametrize("command", [["info"], ["verify"], ["info", "--json"]])
def test_files_that_are_none(command, tmp_path, run):
    (tmp_path / "text").write_text("no image")
    for name, words in {"text": "does not begin", "none": "No such file", ".": "directory"}.items():
        code, out, err = run(*command, tmp_path / name)
        assert code == 1 and out == "" and words in err and "Traceback" not in err


def test_words_not_understood(run, path):
    for words in ([], ["what"], ["info"], ["info", path, path], ["convert", path], ["bench", "--keys", "x"]):
        assert run(*words)[0] == 2
    assert run("--help")[0] == 0


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".feather", ".arrow", ".pq", ".iam"])
@pytest.mark.parametrize("dtype", [*DTYPES, "datetime64[s]", "timedelta64[us]"])
def test_convert_there_and_back(suffix, dtype, tmp_path, run, capsys):
    if suffix in (".parquet", ".feather", ".arrow", ".pq"):
        pytest.importorskip("pyarrow")
    first, second, third = tmp_path / "a.iam", tmp_path / f"b{suffix}", tmp_path / "c.iam"
    m = IntArrayMap.from_arrays(FAR, rows_for(6, (2, 3), dtype))
    if m.dtype.kind in "mM":
        m[5][0, 0] = "NaT"
    m.save(first)
    code, out, err = run("convert", first, second)
    if suffix not in (".npz", ".iam") and m.dtype.kind == "c":
        assert code == 1 and "complex" in err and not second.exists()
        return
    assert code == 0 and "6 keys" in out, err
    assert run("convert", second, third)[0] == 0
    back = IntArrayMap.load(third)
    assert list(back) == list(m) and (back.dtype, back.row_shape) == (m.dtype, m.row_shape)
    assert back.to_arrays()[1].tobytes() == m.to_arrays()[1].tobytes()
    assert sorted(os.listdir(tmp_path)) == sorted({"a.iam", second.name, "c.iam"})


@pytest.mark.parametrize("name", ["b.parquet", "b.feather"])
@pytest.mark.parametrize("dtype", ["M8[7s]", "M8[10ms]", "M8[25ns]", "m8[3us]", "M8[2D]", "M8[h]", "m8[W]", "M8[M]"])
def test_convert_changed_times_of_several_units(dtype, name, tmp_path, run):
    """Arrow has no multiples: 100 × 7 s were written as 100 s, and read as 14 × 7 s."""
    pytest.importorskip("pyarrow")
    m = IntArrayMap.from_arrays([1, 2], np.array([[100, -3], [0, 0]]).view(dtype))
    m[2][1] = "NaT"
    m.save(tmp_path / "a.iam")
    assert run("convert", tmp_path / "a.iam", tmp_path / name)[0] == 0
    back = convert.read(str(tmp_path / name))
    assert back.dtype == m.dtype and list(back) == list(m)
    assert back.to_arrays()[1].tobytes() == m.to_arrays()[1].tobytes()


@pytest.mark.parametrize("dtype", ["M8[ps]", "m8[7as]", "m8[M]"])
def test_convert_refuses_times_that_arrow_has_not(dtype, tmp_path, run):
    pytest.importorskip("pyarrow")
    IntArrayMap.from_arrays([1], np.array([[100]]).view(dtype)).save(tmp_path / "a.iam")
    for name in ("b.parquet", "b.feather"):
        code, _, err = run("convert", tmp_path / "a.iam", tmp_path / name)
        assert code == 1 and np.dtype(dtype).name in err and not (tmp_path / name).exists()
    assert run("convert", tmp_path / "a.iam", tmp_path / "b.npz")[0] == 0


def test_convert_refuses_times_that_arrow_cannot_count(tmp_path, run):
    pytest.importorskip("pyarrow")
    IntArrayMap.from_arrays([1], np.array([[2**62]]).view("M8[7s]")).save(tmp_path / "a.iam")
    code, _, err = run("convert", tmp_path / "a.iam", tmp_path / "b.parquet")
    assert code == 1 and "does not fit" in err and not (tmp_path / "b.parquet").exists()


def test_convert_an_empty_map_and_several_pieces(tmp_path, run, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(convert, "PIECE_ROWS", 100)
    for count in (0, 1, 100, 301):
        m = IntArrayMap.from_arrays(np.arange(count) * 2**40, rows_for(count))
        m.save(tmp_path / "a.iam")
        for name in ("b.parquet", "b.feather", "b.npz"):
            assert run("convert", tmp_path / "a.iam", tmp_path / name)[0] == 0
            back = convert.read(str(tmp_path / name))
            assert back == m and back.row_shape == (3,)


def test_convert_reads_what_others_wrote(tmp_path, run):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
    parquet.write_table(pa.table({"key": pa.array([7, 9], pa.uint16()), "row": rows}), tmp_path / "a.parquet")
    assert run("convert", tmp_path / "a.parquet", tmp_path / "b.iam")[0] == 0
    m = IntArrayMap.load(tmp_path / "b.iam")
    assert m[9].tolist() == [3, 4] and m.dtype == np.int32


def test_convert_refuses(tmp_path, run, path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def table(name, **columns):
        parquet.write_table(pa.table(columns), tmp_path / name)
        return name

    lists = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "text.parquet").write_text("no")
    (tmp_path / "text.feather").write_text("no")
    np.savez(tmp_path / "other.npz", a=[1])
    np.savez(tmp_path / "ragged.npz", keys=[1, 2], rows=[[1.0]])
    np.savez(tmp_path / "objects.npz", keys=[1], rows=np.array([[None]], object))
    wrong = [
        "text.npz",
        "text.parquet",
        "text.feather",
        "other.npz",
        "ragged.npz",
        "objects.npz",
        "missing.npz",
        "missing.parquet",
        table("no_row.parquet", key=[1, 2]),
        table("float_key.parquet", key=[1.0, 2.0], row=lists),
        table("ragged.parquet", key=[1, 2], row=pa.array([[1.0], [2.0, 3.0]])),
        table("null_key.parquet", key=pa.array([1, None]), row=lists),
        table("null_row.parquet", key=[1, 2], row=pa.array([[1.0, 2.0], None], lists.type)),
        table("null_item.parquet", key=[1, 2], row=pa.array([[1.0, None], [1.0, 2.0]], lists.type)),
        table("twice.parquet", key=[1, 1], row=lists),
        table("large.parquet", key=pa.array([1, 2**63], pa.uint64()), row=lists),
        table("words.parquet", key=[1, 2], row=pa.array([["a"], ["b"]], pa.list_(pa.string(), 1))),
        "half.npz",
        "flat.npz",
        "shaped.parquet",
    ]
    np.savez(tmp_path / "whole.npz", keys=np.arange(9), rows=np.ones((9, 2)))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.savez(tmp_path / "flat.npz", keys=[1, 2], rows=[1.0, 2.0])
    noted = {b"intarraymap": json.dumps({"row_shape": [3]}).encode()}
    parquet.write_table(
        pa.table({"key": [1, 2], "row": lists}).replace_schema_metadata(noted), tmp_path / "shaped.parquet"
    )
    for name in wrong:
        code, out, err = run("convert", tmp_path / name, tmp_path / "out.iam")
        assert code == 1 and out == "" and err.startswith("intarraymap: ") and "Traceback" not in err, (name, err)
        assert not (tmp_path / "out.iam").exists()
    for target in ("out", "out.txt", "no/folder.npz"):
        assert run("convert", path, tmp_path / target)[0] == 1


NOTES_AND_ROWS = {
    "a number too large": ({"dtype": "|i1"}, [[300]], "int64", OverflowError, "rows[1], item 0: 300"),
    "a negative one": ({"dtype": "<u8"}, [[-1]], "int64", OverflowError, "rows[1], item 0: -1"),
    "floats": ({"dtype": "<i8"}, [[1.5]], "float64", TypeError, "float64"),
    "numbers as times": ({"dtype": "<M8[s]"}, [[1]], "int64", TypeError, "int64"),
    "half a dtype": ({"dtype": "i4,("}, [[1]], "int64", TypeError, "dtype"),
    "no dtype": ({"dtype": "what"}, [[1]], "int64", TypeError, "what"),
    "a dtype of objects": ({"dtype": "O"}, [[1]], "int64", TypeError, "object"),
    "no shape": ({"row_shape": 1.5}, [[1]], "int64", TypeError, "row_shape"),
    "words as the shape": ({"row_shape": ["a"]}, [[1]], "int64", TypeError, "row_shape"),
    "a huge shape": ({"row_shape": [2**40]}, [[1]], "int64", OverflowError, "too large"),
}


@pytest.mark.parametrize("case", list(NOTES_AND_ROWS))
def test_convert_wrapped_numbers_at_the_word_of_the_metadata(case, tmp_path, run):
    """What a file notes of its rows may be a lie: 300 was read as the int8 44, and half a dtype raised SyntaxError."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    noted, rows, item, error, words = NOTES_AND_ROWS[case]
    notes = {b"intarraymap": json.dumps({"row_shape": [1], **noted}).encode()}
    table = pa.table({"key": [4, 5], "row": pa.array([[0], *rows], pa.list_(pa.type_for_alias(item), 1))})
    parquet.write_table(table.replace_schema_metadata(notes), tmp_path / "a.parquet")
    with pytest.raises(error, match=re.escape(words)):
        convert.read(str(tmp_path / "a.parquet"))
    assert run("convert", tmp_path / "a.parquet", tmp_path / "out.iam")[0] == 1


@pytest.mark.parametrize("notes", [b"{", b"\xff", b"[" * 100_000, b'{"row_shape": ' + b"[" * 100_000])
def test_convert_of_metadata_that_is_no_json(notes, tmp_path):
    """Deeply nested, it raised RecursionError."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather

    table = pa.table({"key": [1], "row": pa.array([[1]], pa.list_(pa.int8(), 1))})
    feather.write_feather(
        table.replace_schema_metadata({b"intarraymap": notes}), tmp_path / "a.feather", "uncompressed"
    )
    with pytest.raises(ValueError, match="metadata"):
        convert.read(str(tmp_path / "a.feather"))


def test_convert_of_items_that_are_no_numbers(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather

    items = {
        "bytes": pa.array([b"a"]),
        "lists": pa.array([[1]], pa.list_(pa.int8())),
        "structs": pa.array([{"a": 1}]),
        "nulls": pa.nulls(1),
        "decimals": pa.array([1], pa.decimal128(5)),
        "times of day": pa.array([1], pa.time64("us")),
        "intervals": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        "a dictionary": pa.array(["a"]).dictionary_encode(),
        "numbers in a dictionary": pa.array([1]).dictionary_encode(),
    }
    for name, flat in items.items():
        table = pa.table({"key": [1], "row": pa.FixedSizeListArray.from_arrays(flat, 1)})
        feather.write_feather(table, str(tmp_path / name) + ".feather", "uncompressed")
        with pytest.raises((TypeError, ValueError)):
            convert.read(str(tmp_path / name) + ".feather")


def test_without_pyarrow(path, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run("convert", path, tmp_path / "out.parquet")
    assert code == 1 and "pip install pyarrow" in err
    assert run("convert", path, tmp_path / "out.npz")[0] == 0


def test_demo(run):
    code, out, err = run("demo")
    assert (code, err) == (0, "") and "agrees: True" in out


def test_bench(run, looks):
    code, out, err = run("bench", "--keys", 2000)
    assert (code, err) == (0, "") and "get rows" in out and "python -m bench run" in out
    assert run("bench", "--keys", 0)[0] == 1


def test_as_a_program(path):
    done = subprocess.run([sys.executable, "-m", "intarraymap", "info", path], capture_output=True, text=True)
    assert done.returncode == 0 and "1,000" in done.stdout and done.stderr == ""
    done = subprocess.run([sys.executable, "-m", "intarraymap"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stdout
    done = subprocess.run([sys.executable, "-m", "intarraymap", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"intarraymap {intarraymap.__version__}\n")
    done = subprocess.run(
        f"{sys.executable} -m intarraymap info {path} | head -c 5", shell=True, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "intarraymap", "info", path], capture_output=True, env=ascii_only)
    assert done.returncode == 0 and b"####" in done.stdout


def test_progress_for_people(looks, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_is_for_people", lambda stream: True)
    with terminal.progress_bar("writing") as tell:
        tell(1, 2)
        tell(2, 2)
    assert looks == "rich" or "writing 100 %" in capsys.readouterr().err
