"""Any bytes give the exact map or a clear ValueError or OSError; a map opened from lies is read without harm."""

from __future__ import annotations

import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from images import FIELDS, HEADER, PARTS, Image, checksum
from model import rows_for

from intarraymap import IntArrayMap

#: What an opened map may raise while it is read, whatever its file says.
READ_ERRORS = (ValueError, KeyError, OSError)


def scattered(count: int) -> np.ndarray:
    return np.random.default_rng(1).choice(2**62, count, replace=False) * 2 - 2**62


def build(kind: str) -> IntArrayMap:
    if kind == "hash":
        return IntArrayMap.from_arrays(scattered(300), rows_for(300), index="hash")
    if kind == "direct":
        return IntArrayMap.from_arrays(range(-50, 250), rows_for(300), index="direct")
    m = IntArrayMap.from_arrays([*range(1000, 1200), *range(300)], rows_for(500), index="direct")
    m.delete_many(range(0, 300, 3))
    return m


@pytest.fixture(params=["hash", "direct", "ring"])
def source(request):
    return build(request.param)


@pytest.fixture
def image(source, tmp_path):
    path = tmp_path / "map.iam"
    source.save(path)
    return Image(path)


def refused(path, match: str | None = None) -> None:
    """Neither loaded nor opened, by whatever way."""
    for call in (
        lambda: IntArrayMap.load(path),
        lambda: IntArrayMap.open(path),
        lambda: IntArrayMap.open(path, verify="full"),
        lambda: IntArrayMap.open(path, mode="c"),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            call()
        assert str(path) in str(caught.value)


def read_all(m: IntArrayMap) -> None:
    """Everything that reads. Answers may be wrong, errors are the documented ones, and it ends."""
    keys = []
    calls = [
        lambda: keys.extend(k for k, _ in zip(m, range(5000), strict=False)),
        lambda: len(m),
        lambda: repr(m),
        lambda: m.stats(),
        lambda: m.get_many(keys[:100] + [3, -1], default=0),
        lambda: m.contains_many(keys[:100] + [3, -1]),
        lambda: m.index_many(keys[:100] + [3, -1]),
        lambda: [m[k].sum() for k in keys[:100]],
        lambda: [row.sum() for row in m.values()],
        lambda: list(m.items())[-1:],
        lambda: list(reversed(m))[:1],
        lambda: [row.sum() for _, row in m.scan()],
        lambda: m.to_arrays()[1].sum(),
        lambda: m.blocks()[0][2].sum() if m.blocks() else 0,
        lambda: m.copy()._check(),
        lambda: pickle.loads(pickle.dumps(m))._check(),
        lambda: m == m.copy(),
        lambda: IntArrayMap(m.row_shape, m.dtype).merge(m),
        lambda: m._check(),
    ]
    for call in calls:
        try:
            call()
        except READ_ERRORS:
            pass
        except RuntimeError as error:  # _check, which says which invariant is broken
            assert ":" in str(error)


def try_all(path, source: IntArrayMap) -> tuple[bool, bool]:
    """(opened by its header, found whole). A map that is whole has the keys of the source."""
    opened = whole = False
    try:
        m = IntArrayMap.open(path)
    except (ValueError, OSError):
        pass
    else:
        opened = True
        read_all(m)
        m.close()
    for call in (
        lambda: IntArrayMap.load(path),
        lambda: IntArrayMap.open(path, verify="full"),
        lambda: IntArrayMap.open(path, mode="c"),
    ):
        try:
            m = call()
        except (ValueError, OSError):
            continue
        whole = True
        m._check()
        if not m.read_only:
            m[12345] = 1
            m._check()
    return opened, whole


# ---- Not an image at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"x" * 5,
        b"x" * 10_000,
        b"\0" * 4096,
        b"\xff" * 8192,
        pickle.dumps({1: 2}),
        b"PK\x03\x04" + b"\0" * 5000,
        b"\x89IAM\r\n\x1a",
        b"\x89IAM\r\n\x1a\n",
        b"\x89IAM\r\n\x1a\n" + b"\0" * 4088,
    ],
)
def test_other_files(content, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(content)
    refused(path)


def test_what_is_not_a_file(tmp_path):
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "empty")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    for name, kind in {
        "missing": FileNotFoundError,
        "": IsADirectoryError,
        "fifo": OSError,
        "dangling": FileNotFoundError,
        "circle": OSError,
        "empty/below": NotADirectoryError,
    }.items():
        for call in (IntArrayMap.load, IntArrayMap.open):
            with pytest.raises(kind):
                call(tmp_path / name)
    for device in ("/dev/null", "/dev/zero", "/dev/tty"):
        with pytest.raises(OSError):
            IntArrayMap.load(device)


@pytest.mark.skipif(os.geteuid() == 0, reason="RUNS AS ROOT: every file can be read")
def test_unreadable(image):
    image.path.chmod(0)
    for call in (IntArrayMap.load, IntArrayMap.open):
        with pytest.raises(PermissionError):
            call(image.path)


def test_files_of_proc():
    for name in ("/proc/self/maps", "/proc/self/mem", "/proc/cpuinfo"):
        with pytest.raises((ValueError, OSError)):
            IntArrayMap.open(name)


# ---- Damage ----------------------------------------------------------------------------------------------------------


def test_flipped_bytes(image, source):
    """All of the header that means something, and a sample of the rest. (tests/core/test_image.c flips all bytes.)"""
    size = len(image.data)
    chance = random.Random(3)
    places = [*range(300), *chance.sample(range(300, size), 100), *range(size - 16, size)]
    whole = bytes(image.data)
    for place in places:
        image.data[place] ^= 1 << chance.randrange(8)
        image.write()
        for call in (lambda: IntArrayMap.load(image.path), lambda: IntArrayMap.open(image.path, verify="full")):
            with pytest.raises(ValueError):
                call()
        if place < HEADER:
            with pytest.raises(ValueError):
                IntArrayMap.open(image.path)
        image.data[place] = whole[place]
    assert IntArrayMap.load(image.write()) == source


def test_truncations(image):
    whole = bytes(image.data)
    for size in [*range(1, 12), 4095, 4096, 4097, *range(5000, len(whole), 1777), len(whole) - 8, len(whole) - 1]:
        image.path.write_bytes(whole[:size])
        refused(image.path)
    image.path.write_bytes(whole + b"\0")
    refused(image.path)
    image.path.write_bytes(whole + whole)
    refused(image.path)


def test_one_row_is_shown_damaged_or_refused(image, source):
    rows = image.part("rows", "f8")
    rows[1] += 1
    image.write()
    assert IntArrayMap.open(image.path).to_arrays()[1].shape == source.to_arrays()[1].shape
    for call in (lambda: IntArrayMap.load(image.path), lambda: IntArrayMap.open(image.path, verify="full")):
        with pytest.raises(ValueError, match="damaged"):
            call()


# ---- Lies in the header ----------------------------------------------------------------------------------------------

LIES = [
    0,
    1,
    2,
    3,
    8,
    63,
    64,
    65,
    300,
    4096,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
    2**32,
    2**40,
    2**63,
    2**64 - 1,
]


def test_lying_headers(image, source):
    """A wrong number anywhere in the header, with a checksum that fits: no harm, and never taken for whole."""
    whole = bytes(image.data)
    for name, (_, code) in FIELDS.items():
        if code == "<8s":
            continue
        for lie in LIES:
            if lie >= 2 ** (8 * struct.calcsize(code)) or lie == image.get(name):
                continue
            image.set(name, lie).seal_header().write()
            try_all(image.path, source)  # mode "c" does not look at the blocks, so it may be taken for whole there
            for call in (lambda: IntArrayMap.load(image.path), lambda: IntArrayMap.open(image.path, verify="full")):
                with pytest.raises(ValueError):
                    call()
            image.data[:] = whole


def test_lying_headers_with_everything_sealed(image, source):
    whole = bytes(image.data)
    found_whole = []
    for name, (_, code) in FIELDS.items():
        if code == "<8s":
            continue
        for lie in LIES[::2]:
            if lie >= 2 ** (8 * struct.calcsize(code)) or lie == image.get(name):
                continue
            image.set(name, lie).seal().write()
            if try_all(image.path, source)[1]:
                found_whole.append(name)
                assert name == "kind" or IntArrayMap.load(image.path) == source
            image.data[:] = whole
    # What may be otherwise and still be a map: another kind of numbers of the same size, another index asked for; a
    # direct map in line that does not say so; a wider directory.
    assert set(found_whole) <= {"kind", "index_asked", "linear", "page_span"}


def test_lying_sections(image, source):
    """Overlapping, outside, unaligned, missing, swapped."""
    whole = bytes(image.data)
    sections = {name: image.section(name) for name in PARTS}
    for place, name in enumerate(PARTS):
        for lie in (
            (0, 0),
            (4096, 4096),
            (8192, sections[name][1]),
            (2**63, 8),
            (sections[name][0] + 8, 8),
            (2**64 - 8, 16),
        ):
            if lie == sections[name]:
                continue
            struct.pack_into("<QQ", image.data, 144 + 16 * place, *lie)
            image.seal_header().write()
            refused(image.path)
            image.data[:] = whole
    assert IntArrayMap.load(image.write()) == source


@pytest.mark.parametrize("unit", [b"\0", b"xx", b"us\0\0\0\0us", b"\xff" * 8, b"ns]", b"generic"])
def test_lying_time_units(unit, tmp_path):
    path = tmp_path / "times.iam"
    IntArrayMap.from_arrays([1], np.zeros((1, 1), "M8[us]")).save(path)
    Image(path).set("time_unit", unit).seal().write()
    refused(path)
    for multiple in (0, 2**31, 2**64 - 1):
        IntArrayMap.from_arrays([1], np.zeros((1, 1), "M8[us]")).save(path)
        Image(path).set("time_multiple", multiple).seal().write()
        refused(path)


def test_other_machines_and_versions(image):
    whole = bytes(image.data)
    image.set("byte_order", int.from_bytes(image.get("byte_order").to_bytes(4, "little"), "big")).seal().write()
    refused(image.path, "big-endian")
    image.data[:] = whole
    image.set("version", 2).seal().write()
    refused(image.path, "version 2")


def test_bools_that_are_neither(tmp_path):
    path = tmp_path / "bools.iam"
    IntArrayMap.from_arrays([1, 2], [[True], [False]]).save(path)
    image = Image(path)
    image.part("rows", "u1")[1] = 2
    image.seal().write()
    for call in (lambda: IntArrayMap.load(path), lambda: IntArrayMap.open(path, verify="full")):
        with pytest.raises(ValueError, match="bool"):
            call()


# ---- Lies under right checksums --------------------------------------------------------------------------------------


def test_lies_in_every_section(image, source):
    """Any number anywhere, all checksums right: read without harm."""
    chance = random.Random(11)
    whole = bytes(image.data)
    opened = 0
    names = [name for name in PARTS[:-1] if image.section(name)[1]]
    for _ in range(50):
        for _ in range(chance.choice([1, 1, 2, 5, 50])):
            words = image.part(chance.choice(names), "u4")
            words[chance.randrange(len(words))] = chance.choice(
                [0, 1, chance.randrange(400), chance.getrandbits(32), 2**32 - 1, 2**31, 2**24]
            )
        image.seal().write()
        opened += try_all(image.path, source)[0]
        image.data[:] = whole
    assert opened > 30


def test_rows_out_of_range_and_cycles(tmp_path):
    path = tmp_path / "hash.iam"
    m = IntArrayMap.from_arrays(scattered(5000), rows_for(5000), index="hash")
    keys = m.to_arrays()[0]
    for lie in ("rows", "cycle", "far links", "tags", "everything"):
        m.save(path)
        image = Image(path)
        buckets, overflow = image.part("buckets", "u4").reshape(-1, 32), image.part("overflow", "u4").reshape(-1, 32)
        if lie in ("rows", "everything"):
            for part in (buckets, overflow):
                part[:, 4:8], part[:, 24:28] = 2**32 - 1, 5000
        if lie in ("cycle", "everything"):
            buckets[:, 2], overflow[:, 2] = 1, 1
            buckets[:, 3] |= 0xFFFF0000  # the filter: look into the chain for whatever key
        if lie == "far links":
            buckets[:, 2], overflow[:, 2] = 2**32 - 1, len(overflow) + 1
            buckets[:, 3] |= 0xFFFF0000
        if lie == "tags":
            for part in (buckets, overflow):
                part[:, 0:2] = 0x05050505
        image.seal().write()
        opened = IntArrayMap.open(path)
        assert opened.get_many(keys, default=0).shape == (5000, 3)
        if lie in ("rows", "everything"):
            assert not opened.contains_many(keys).any()
        read_all(opened)
        for call in (
            lambda: IntArrayMap.load(path),
            lambda: IntArrayMap.open(path, verify="full"),
            lambda: IntArrayMap.open(path, mode="c"),
        ):
            with pytest.raises(ValueError):
                call()


def test_a_key_twice(tmp_path):
    path = tmp_path / "twice.iam"
    IntArrayMap.from_arrays(scattered(100), rows_for(100), index="hash").save(path)
    image = Image(path)
    keys = image.part("keys", "i8")
    keys[1] = keys[0]
    image.seal().write()
    with pytest.raises(ValueError):
        IntArrayMap.load(path)


def test_presence_that_lies(tmp_path):
    path = tmp_path / "direct.iam"
    m = build("ring")
    for lie in (0, 2**64 - 1, 0x5555555555555555):
        m.save(path)
        image = Image(path)
        presence = image.part("presence", "u8")
        presence[:-1] = lie
        image.seal().write()
        opened = IntArrayMap.open(path)
        read_all(opened)
        with pytest.raises(ValueError, match="damaged"):
            opened.to_arrays()
        with pytest.raises(ValueError):
            IntArrayMap.load(path)


def test_the_plain_words_of_the_checksum():
    """docs/format.md's example; tests/core/test_image.c pins the same numbers."""
    words = struct.pack("<21Q", *[i * i + 1 for i in range(21)])
    assert checksum(b"", 1) == 0xE3DDBC9858EAAD5B
    assert checksum(words[:64], 1) == 0xE94E8060246E299F
    assert checksum(words, 2) == 0x93CBB9E15292C8F1


# ---- Changed while it is open ----------------------------------------------------------------------------------------

TRUNCATED = """
    import os, sys, faulthandler
    import numpy as np
    from intarraymap import IntArrayMap
    path = {path!r}
    rng = np.random.default_rng(1)
    keys = {keys}
    m = IntArrayMap.from_arrays(keys, np.ones((len(keys), 8)), index={index!r})
    m.save(path)
    opened, other = IntArrayMap.open(path), IntArrayMap.open(path)
    view = opened[int(keys[-1])]
    os.truncate(path, {size})
    said = []
    for call in (lambda: opened.get_many(keys, 0), lambda: opened.to_arrays(), lambda: opened.copy(),
                 lambda: opened.stats(), lambda: opened.blocks()[0][2].sum(), lambda: list(opened.items())):
        try:
            call()
        except (OSError, ValueError) as error:
            said.append(str(error))
    assert len(said) >= 2, said
    assert "the file that this map was opened from has become shorter: a part of it is lost" in said, said
    view.sum()
    for key in keys[:50].tolist():
        other.get(key)
    opened.close()
    os.truncate(path, 0)
    other.close()
    try:
        IntArrayMap.load(path)
    except ValueError:
        print("over")
"""


@pytest.mark.parametrize("index", ["hash", "direct"])
@pytest.mark.parametrize("size", [0, 4096, 100_000, 1_000_000])
def test_truncated_while_open(index, size, tmp_path, run_child):
    keys = "rng.choice(2**60, 20_000, replace=False)" if index == "hash" else "np.arange(20_000)"
    code = TRUNCATED.format(path=str(tmp_path / "map.iam"), index=index, size=size, keys=keys)
    assert "over" in run_child(code)


def test_other_bus_errors_go_where_they_went(tmp_path):
    """A SIGBUS that is not ours ends the process as it would have, and a handler before ours is called."""
    path = tmp_path / "map.iam"
    build("hash").save(path)
    code = """
        import faulthandler, mmap, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.{}()
        from intarraymap import IntArrayMap
        m = IntArrayMap.open({!r})
        with open({!r}, "wb+") as file:
            file.write(bytes(8192))
            file.flush()
            other = mmap.mmap(file.fileno(), 8192)
            file.truncate(0)
        other[5000]
    """
    for before in ("disable", "enable"):
        script = textwrap.dedent(code.format(before, str(path), str(tmp_path / "other")))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == -signal.SIGBUS, done
        assert ("Bus error" in done.stderr) is (before == "enable")
