"""One HTML page of a record: nothing is fetched from anywhere, light and dark, wide and narrow."""

from html import escape

from .sheets import all_sheets, everyone_sheet

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6675; --ground: #fbfbf9; --card: #ffffff; --grid: #d9dde2;
  --floor: #7b8490; --ours: #0b62d6; --win: #12803c; --loss: #c62f2f; --win-ground: #e3f4e8; --loss-ground: #fbe6e4;
  --series-1: #d97a00; --series-2: #8b4fc4; --series-3: #0f8f8a; --series-4: #b83280; --series-5: #6b7a12;
  --series-6: #8a5a34; --series-7: #3b7fb0; --series-8: #9a9a9a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b3; --ground: #12161c; --card: #1a2028;
  --grid: #38424e; --floor: #9aa5b3; --ours: #66adff; --win: #56cf83; --loss: #ff7b72; --win-ground: #14331f;
  --loss-ground: #43201e; --series-1: #ffb04d; --series-2: #c69bf2; --series-3: #55d0ca; --series-4: #f08cc0;
  --series-5: #b9c95a; --series-6: #cf9f78; --series-7: #7dbfe8; --series-8: #c0c0c0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; } h2 { font-size: 1.15rem; margin: 0 0 0.5rem; }
p, li, footer { color: var(--soft); overflow-wrap: anywhere; }
section, details { background: var(--card); border: 1px solid var(--grid); border-radius: 8px; padding: 0.8rem;
  margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.plots section { margin: 0; } svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; width: 100%; }
th, td { text-align: left; padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--grid); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; } td:first-child { white-space: normal; min-width: 11rem; }
.win { color: var(--win); background: var(--win-ground); }
.loss { color: var(--loss); background: var(--loss-ground); font-weight: 600; }
.word { font-weight: 600; padding: 0 0.3rem; border-radius: 4px; }
"""


def table_of(sheet):
    """A sheet as HTML."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in sheet.headings)
    rows = []
    for row in sheet.rows:
        cells = "".join(
            f'<td class="{cell.verdict}">{escape(cell.text)}</td>' if cell.verdict else f"<td>{escape(cell.text)}</td>"
            for cell in row
        )
        rows.append(f"<tr>{cells}</tr>")
    body = "\n".join(rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def section_of(sheet):
    note = f"<p>{escape(sheet.note)}</p>" if sheet.note else ""
    return f"<section><h2>{escape(sheet.title)}</h2>{note}{table_of(sheet)}</section>"


def plots_of(record):
    """The plots, or a word on why there are none."""
    try:
        from .plots import all_plots
    except ImportError as error:
        return f"<p>No plots: {escape(str(error))}.</p>"
    try:
        made = all_plots(record)
    except ImportError as error:
        return f"<p>No plots: matplotlib is not installed ({escape(str(error))}).</p>"
    drawn = "\n".join(f'<section aria-label="{escape(title)}">{svg}</section>' for title, svg in made)
    return f'<div class="plots">{drawn}</div>'


def page(record):
    """The whole page as text."""
    about = record.machine
    first, *others = all_sheets(record)
    caches = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in about.get("caches", {}).items())
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    state = "" if record.complete else " <strong>This run was interrupted: what it had is here.</strong>"
    notes = "".join(f"<li>{escape(note)}</li>" for note in [*record.wrong, *record.notes])
    settings = ", ".join(f"{name}: {value}" for name, value in record.settings.items())
    everyone = everyone_sheet(record.outcomes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>intarraymap: the bench</title>
<style>{STYLE}</style>
</head>
<body>
<h1>intarraymap: the bench</h1>
<p>Commit {escape(str(about["commit"]))}, {escape(record.started)}. {escape(about["processor"])},
{about["cores"]} cores, {escape(caches)}, {escape(about["system"])}, Python {escape(about["python"])}.{state}
<span class="word win">Green: the map is ahead, or a target is met.</span>
<span class="word loss">Red: it is behind, or missed.</span>
Uncoloured: the rounds do not agree.</p>
{section_of(first)}
{plots_of(record)}
{"".join(section_of(sheet) for sheet in others)}
<details><summary>Everyone's own figures: wall and CPU time</summary>{table_of(everyone)}</details>
<details><summary>Left out, and settings</summary><ul>{notes}</ul><p>{escape(settings)}</p><p>{escape(versions)}</p>
<p>Huge pages: {escape(about["huge_pages"])}; pages of {about["page_bytes"]:,} bytes.</p></details>
<footer>Made by <code>python -m bench report</code> from one JSON file. How each figure is taken:
<code>bench/README.md</code>.</footer>
</body>
</html>
"""
