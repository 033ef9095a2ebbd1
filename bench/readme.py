"""The README's table of figures: written between two comments, from one record."""

import textwrap
from pathlib import Path

from .machine import ROOT
from .sheets import claims, figure, name_of

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COLUMNS = ("operation", "keys", "floor", "map", "best rival", "map ÷ floor", "rival ÷ map")


def lost(outcome):
    """Whether the best rival was faster, by the median of the ratios."""
    ratio = outcome.ratio(outcome.best_rival(), outcome.map_and_floor()[0])
    return ratio is not None and ratio[0] < 1


def timed_row(outcome):
    """One operation; a loss in bold."""
    ours, floor = outcome.map_and_floor()
    rival = outcome.best_rival()
    name = f"**{name_of(outcome.case)} (we lose)**" if lost(outcome) else name_of(outcome.case)

    def median(three):
        return figure(three[0]) if three else "–"

    cells = (
        name,
        f"{outcome.case.key_count:,}",
        median(outcome.spread(floor)),
        median(outcome.spread(ours)),
        f"{median(outcome.spread(rival))} ({rival})" if rival else "–",
        median(outcome.ratio(ours, floor)),
        median(outcome.ratio(rival, ours)),
    )
    return f"| {' | '.join(cells)} |"


def belongs(finding):
    """Whether what was measured is for the README: pauses, allocations, memory at peak; the page has the rest."""
    if finding.group == "memory" and finding.unit == "bytes/row":
        return finding.what.endswith("peak")
    return finding.limit is not None and (finding.met() is False or "built by" not in finding.what)


def text_of(record):
    """What stands between the comments."""
    about = record.machine
    found = claims(record)
    met = sum(claim.met is True for claim in found)
    missed = [claim for claim in found if claim.met is False]
    profile = "quick profile" if record.settings.get("quick") else "full profile"
    profile += "" if record.complete else ", interrupted"
    profile += f", only {record.settings['only']}" if record.settings.get("only") else ""
    day = record.started.split()[0]
    machine = f"{about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}"
    words = (
        f"Measured at commit `{about['commit']}` on {day} by `python -m bench run` ({profile}) on {machine}. Medians "
        "in ns per operation over interleaved rounds, 8 × float64 rows, one thread each; the floor is `np.take(rows, "
        "known_positions)`, copying, or an empty loop. "
        f"Of {met + len(missed)} targets {met} are met and {len(missed)} missed."
    )
    lines = [
        *textwrap.wrap(words, 120, break_on_hyphens=False),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    outcomes = record.group("operations")[0]
    lines += [timed_row(outcome) for outcome in sorted(outcomes, key=lambda outcome: not lost(outcome))]
    measured = [finding for finding in record.findings if belongs(finding)]
    if measured:
        lines += ["", "| measure | keys | value | limit |", "|---|---|---|---|"]
    for finding in measured:
        limit = "–" if finding.limit is None else f"≤ {figure(finding.limit)} {finding.unit}".rstrip()
        value = f"{figure(finding.value)} {finding.unit}".rstrip()
        what = f"{finding.who}: {finding.what}"
        what = f"**{what} (missed)**" if finding.met() is False else what
        lines.append(f"| {what} | {finding.keys:,} | {value} | {limit} |")
    return "\n".join(lines)


def rewrite(record, path=ROOT / "README.md"):
    """Puts the record's figures between the comments; ValueError where they are not there."""
    path = Path(path)
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: expected the comments {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n\n{text_of(record)}\n\n{end}{after}")
