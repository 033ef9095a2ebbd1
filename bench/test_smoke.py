"""The bench itself, at tiny sizes: every case with every contestant, every part, every way out. No figure is judged."""

import argparse
import json
import math
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from bench import c_level, cases, compare, mechanisms, readme, scalars, sheets, suite, workload, workloads
from bench.machine import ROOT
from bench.page import page
from bench.record import Finding, Record, load
from bench.report import show_record
from bench.runner import Case, Entry, Outcome, Target, Timing, WrongAnswer, measure
from bench.terminal import show_plain
from bench.workload import WORKLOADS

FEW = 500


@pytest.fixture(scope="module")
def who():
    found, _left_out = suite.contestants()
    if found.map is None:
        pytest.skip("intarraymap is not installed")
    return found


def tiny_plans():
    yield cases.get_many_hits(FEW, query_count=1_000)
    yield cases.get_many_hits(FEW, query_count=1_000, call_size=300)
    yield cases.get_many_hits(FEW, query_count=1_000, dense=True, out=True, slow=False)
    for pattern in workloads.patterns():
        yield cases.get_many_hits(FEW, query_count=1_000, pattern=pattern)
        yield cases.build(FEW, how="from_arrays", pattern=pattern)
    for width, dtype in ((1, "float64"), (64, "float32"), (8, "uint64")):
        yield cases.get_many_hits(FEW, query_count=1_000, width=width, dtype=dtype)
        yield cases.build(FEW, how="set_many", width=width, dtype=dtype)
        yield cases.add_many("uniform", width=width, dtype=dtype, update_count=2_000)
    yield cases.get_many_half_missing(FEW, targets=(Target("rival", 2.0),))
    yield cases.contains_many(FEW, half=True, targets=())
    yield cases.contains_many(FEW, half=False, targets=())
    yield cases.set_many_existing(FEW, targets=())
    yield cases.delete_many(FEW, targets=())
    yield cases.add_many("Zipf(1.2)", update_count=2_000, batch=300)
    yield cases.add_many("Zipf(1.2)", update_count=2_000)
    for verb in ("get", "copy", "set", "insert", "contains", "delete"):
        yield scalars.scalar(verb, FEW, query_count=1_000)
    yield scalars.scalar("contains", FEW, missing=True, query_count=1_000)
    yield scalars.iterate_items(FEW)
    variants = [value for value in vars(mechanisms).values() if isinstance(value, mechanisms.Variant)]
    scattered = [one for one in variants if one is not mechanisms.DIRECT]  # too sparse for it, and says so
    for keys_name, some in (("dense keys", variants), ("random keys", scattered)):
        yield mechanisms.insert(keys_name, FEW, some)
        yield mechanisms.set_many(keys_name, FEW, some)
        yield mechanisms.get_many(keys_name, FEW, some, query_count=1_000)


@pytest.mark.parametrize("plan", list(tiny_plans()), ids=lambda plan: f"{plan.group}: {plan.name}")
def test_every_case_answers_right(plan, who):
    outcome = measure(plan.make(who, 2), 1)
    assert outcome.of_role("map")
    for name, timing in outcome.timings.items():
        assert list(timing.wall) == [0] and timing.wall[0] > 0, name
    again = Outcome.from_json(json.loads(json.dumps(outcome.as_json())))
    assert again.as_json() == outcome.as_json()


def test_a_wrong_answer_is_no_time():
    def check(answer, s):
        cases.expect(answer, np.ones(3), "case")

    case = Case("case", 1, 1, [Entry("liar", "rival", lambda s: lambda: np.zeros(3), check)])
    with pytest.raises(WrongAnswer, match="case"):
        measure(case, 1)


def test_patterns_have_distinct_keys():
    for name, (make, draw) in workloads.patterns().items():
        keys = make(5_000)
        assert keys.dtype == np.int64 and np.unique(keys).size == keys.size == 5_000, name
        queries = draw(keys, 3, 1_000)
        assert np.array_equal(keys[queries.positions], queries.keys), name


def made_record(path=None):
    """Two outcomes, a win and a loss, and findings kept and missed, with figures that are easy to follow."""
    record = Record(path, {"quick": True})
    for rival_ns, operation in ((20.0, "won"), (5.0, "lost")):
        timings = {
            "floor": Timing("floor", {0: 5.0, 1: 6.0}, {0: 5.0, 1: 6.0}),
            "IntArrayMap": Timing("map", {0: 10.0, 1: 12.0}, {0: 9.0, 1: 11.0}),
            "rival <&>": Timing("rival", {0: rival_ns, 1: rival_ns}, {0: rival_ns, 1: rival_ns}),
        }
        record.add(Outcome(Case(operation, 100, 1, [], (Target("floor", 1.5), Target("rival", 1.5))), timings))
    record.find([Finding("memory", "built by whole: resident", 100, 99.0, "bytes/row", 98.0)])
    record.find([Finding("memory", "built by whole: resident", 100, 97.0, "bytes/row", 100.0)])
    return record


def test_claims_are_met_or_missed_with_their_ratio():
    claims = {(claim.what, claim.target): claim for claim in sheets.claims(made_record())}
    assert claims["won", "best rival ≥ 1.5 × map"].met is True
    assert claims["won", "best rival ≥ 1.5 × map"].measured == "1.83 (1.67–2.00) × (rival <&>)"
    assert claims["lost", "best rival ≥ 1.5 × map"].met is False
    assert claims["lost", "≤ 1.5 × floor"].met is False
    assert claims["IntArrayMap: built by whole: resident", "≤ 98.0 bytes/row"].met is False
    assert claims["IntArrayMap: built by whole: resident", "≤ 100 bytes/row"].met is True


def test_a_record_is_whole_after_every_case(tmp_path):
    path = tmp_path / "record.json"
    made = made_record(path)
    kept = load(path)
    assert not kept.complete
    assert kept.as_json() == made.as_json()
    made.finish()
    assert load(path).complete
    path.write_text('{"format": 1}')
    with pytest.raises(ValueError, match="format 1"):
        load(path)


class Tags(HTMLParser):
    """Checks that tags are closed in order; collects what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.classes = [], [], set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.classes.add(given.get("class"))
        self.fetched += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone():
    text = page(made_record())
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert all(address.startswith("#") for address in tags.fetched)
    assert {"win", "loss"} <= tags.classes
    assert "rival &lt;&amp;&gt;" in text and "rival <&>" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "@import" not in text and "url(http" not in text


def test_plots_take_their_colours_from_the_page():
    pytest.importorskip("matplotlib")
    from bench import plots

    made = plots.all_plots(made_record())
    assert [title for title, _svg in made] == ["Wins and losses", "Memory"]
    for _title, svg in made:
        assert svg.startswith("<svg") and "var(--ink)" in svg
        assert ElementTree.fromstring(svg).get("width") is None and "font-family" not in svg
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "var(--win)" in made[0][1] and "var(--loss)" in made[0][1]


def test_the_readme_is_rewritten_between_its_comments(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.rewrite(made_record(), path)
    text = path.read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n") and text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text and "**lost (we lose)**" in text and "| won |" in text
    once = text
    readme.rewrite(made_record(), path)
    assert path.read_text().split("\n")[4:] == once.split("\n")[4:]
    path.write_text("nothing")
    with pytest.raises(ValueError, match="expected the comments"):
        readme.rewrite(made_record(), path)


def test_tables_in_plain_words(capsys):
    show_record(made_record(), everyone=True)
    with_rich = capsys.readouterr().out
    for sheet in sheets.all_sheets(made_record()):
        show_plain(sheet, sys.stdout)
    plain = capsys.readouterr().out
    for text in (with_rich, plain):
        assert "MISSED" in text and "1.83 (1.67–2.00)" in text


def bench(*arguments):
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_run_from_the_command_line(who, tmp_path):
    path, html = tmp_path / "run.json", tmp_path / "run.html"
    asked = ["--only", "get_many hits, calls", "--rivals", "dict", "--keys", 1000, "--rounds", 1]
    done = bench("run", *asked, "--json", path, "--html", html)
    assert done.returncode == 0, done.stderr
    record = load(path)
    assert record.complete and [o.case.operation for o in record.outcomes] == ["get_many hits, calls of 1,000"]
    assert {"IntArrayMap", "floor", "dict of arrays"} <= set(record.outcomes[0].timings)
    assert html.read_text().startswith("<!DOCTYPE html>")
    done = bench("report", path, "--no-readme", "--html", tmp_path / "again.html")
    assert done.returncode == 0 and "Targets: " in done.stdout


@pytest.mark.parametrize("part", ["pause", "memory", "latency"])
def test_parts_from_the_command_line(part, who, tmp_path):
    path = tmp_path / "part.json"
    done = bench(part, "--keys", 2000, "--rivals", "dict of arrays", "--json", path)
    if "left out: latency" in done.stdout:
        assert done.returncode == 2 and "hdrhistogram" in done.stdout
        pytest.skip("hdrhistogram is not installed")
    assert done.returncode == 0, done.stderr
    record = load(path)
    assert any(finding.who == "IntArrayMap" for finding in record.findings)
    assert all(np.isfinite(finding.value) for finding in record.findings)


def test_the_interval_of_a_median():
    assert compare.interval_of_median([1.0, 2.0, 3.0, 4.0, 5.0]) == (-math.inf, math.inf)
    assert compare.interval_of_median([6.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 6.0)  # 1 - 2/64 = 97 %
    assert compare.interval_of_median(list(map(float, range(1, 16)))) == (4.0, 12.0)  # tables of the sign test
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2_000):
        low, high = compare.interval_of_median(rng.exponential(1.0, 15).tolist())
        held += low <= math.log(2) <= high
    assert held / 2_000 >= 0.95


def test_a_difference_is_claimed_only_where_there_is_one():
    rng = np.random.default_rng(6)
    noise = rng.normal(1.0, 0.05, 15)
    assert compare.verdict(noise.tolist()).text == "no difference seen"
    assert compare.verdict((1.2 * noise).tolist()).verdict == sheets.LOSS
    assert compare.verdict((0.8 * noise).tolist()).verdict == sheets.WIN
    assert compare.verdict(rng.normal(1.005, 0.0001, 15).tolist()).text == "no difference seen"  # under one per cent
    assert compare.verdict([1.3] * 5).text == "no difference seen"  # too few rounds to say so
    times = {"same": {"map": [(10.0, 10.0)] * 8, "floor": [(5.0, 5.0)] * 8}, "slow": {"map": [(10.0, 13.0)] * 8}}
    rows = compare.sheet_of(times, "base", "head").rows
    assert [row[0].text for row in rows] == ["slow", "same"]
    assert rows[0][-1].text == "HEAD is 30.0% slower" and rows[1][-1].text == "no difference seen"


def test_a_worker_answers(who):
    worker = compare.Worker(sys.executable, "this")
    try:
        name = next(compare.name_of(plan) for plan in compare.plans() if plan.name == "iterate items")
        assert "map" in worker.ask(make=name)["roles"]
        told = worker.ask(time="map", set=0)
        assert told["wall"] > 0 and told["cpu"] > 0
    finally:
        worker.close()


def test_an_unknown_commit_is_named():
    done = bench("compare", "no-such-commit", "HEAD")
    assert done.returncode == 2 and "no-such-commit: git knows no such commit" in done.stderr


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_workloads_for_profiles(name, who, capsys):
    workload.main(name, 0.0, 1_000)
    assert "1 turns" in capsys.readouterr().out


def test_the_list_of_workloads():
    done = bench("profile", "list")
    assert done.returncode == 0 and all(name in done.stdout for name in WORKLOADS)
    assert bench("profile", "no-such-workload").returncode == 2


def test_an_interrupted_run_leaves_its_record(who, tmp_path):
    path = tmp_path / "part.json"
    command = [sys.executable, "-m", "bench", "run", "--quick", "--only", "iterate", "scalar", "--keys", "1000"]
    process = subprocess.Popen([*command, "--json", str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("  scalar"):
            break
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=120)
    record = load(path)
    assert not record.complete and record.outcomes
    assert "scalar get" in told


@pytest.mark.skipif(not (c_level.PROGRAMS / "tables").exists(), reason="make bench-native has not been run")
def test_the_c_level(tmp_path):
    path = tmp_path / "native.json"
    done = bench("native", "--keys", 2000, "--rounds", 1, "--json", path)
    assert done.returncode == 0, done.stderr
    outcomes, _ = load(path).group("native")
    assert len(outcomes) == 8 and all(outcome.of_role("map") and outcome.of_role("floor") for outcome in outcomes)
    assert {finding.what for finding in load(path).findings} >= {"most steps of a single insert, random keys"}


def test_one_failure_is_told_and_the_rest_goes_on(tmp_path, capsys, monkeypatch):
    """Pins nothing: the suite would pin this very process."""
    monkeypatch.setattr(suite, "pin_to_one_core", lambda: None)
    words = {"only": None, "keys": None, "quick": True, "rounds": 1, "clock": "wall", "rivals": ["dict"], "parts": None}
    made = suite.Suite(argparse.Namespace(**words, json=str(tmp_path / "run.json")))

    def broken(contestants, sets):
        raise ZeroDivisionError("of a rival")

    made.case(cases.Plan("broken", 10, broken))
    made.case(cases.get_many_hits(FEW, query_count=1_000))
    record = load(tmp_path / "run.json")
    assert record.wrong == ["FAILED: broken, 10 keys: ZeroDivisionError: of a rival"]
    assert [outcome.case.operation for outcome in record.outcomes] == ["get_many hits"]


def test_a_name_that_fits_nothing():
    done = bench("run", "--only", "no-such-case")
    assert done.returncode == 2 and "nothing was measured" in done.stderr
