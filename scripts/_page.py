"""The report as one HTML page that opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import _common as common

_STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.6 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; }
h1 { line-height: 1.2; margin-bottom: .25rem; }
h2 { margin: 3rem 0 .25rem; padding-top: 1rem; border-top: 1px solid #ccc; }
p { max-width: 44rem; }
.question { font-style: italic; color: #444; margin-top: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 40rem; }
img { width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #444; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { border-bottom: 2px solid #999; }
/* A phone gets narrow columns with wrapped headings; what is still wider scrolls. */
@media (max-width: 40rem) {
  table { font-size: .8rem; }
  th, td { padding: .25rem .3rem; }
  th, th:first-child, td:first-child { white-space: normal; vertical-align: bottom; }
}
.no { color: #b00020; font-weight: bold; }
nav ol { columns: 14rem; padding-left: 1.25rem; }
a { color: #0058a3; }
footer { margin-top: 3rem; font-size: .9rem; color: #444; }
"""


def write(
    out: Path,
    answers: Mapping[str, common.Answer],
    published: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    """Write index.html: for each exercise its question, answer, figures and table; then all published numbers."""
    inside = sum(row["inside"] for row in published)
    links = "".join(f'<li><a href="#{name}">{escape(answer.title)}</a></li>' for name, answer in answers.items())
    sections = "".join(_section(out, name, answer) for name, answer in answers.items())
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    (out / "index.html").write_text(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nine questions about gradient descent</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Nine questions about gradient descent</h1>
<p>Fitting a line, Ohm's law and Planck's law, each answer measured over replicates.
<strong>{inside} of {len(published)}</strong> published numbers lie between the 0.5 and 99.5 percentiles of
{environment["replicates"]} replicates (<a href="#published">all of them</a>).</p>
<nav><ol>{links}</ol></nav>
{sections}
<h2 id="published">Published numbers</h2>
<p>A number published as nan is inside if at least 0.5 % of the replicates end non-finite; its percentile is their
share, and the median and the range are those of the others.</p>
{_table(columns, [[row[column] for column in columns] for row in published])}
<footer><p>Seed {environment["seed"]}, {environment["dtype"]}, {escape(environment["device"])}; {escape(versions)}.</p>
</footer>
</body>
</html>
""",
        encoding="utf-8",
    )


def _section(out: Path, name: str, answer: common.Answer) -> str:
    figures = "".join(_figure(out / f"{figure}.svg", caption) for figure, caption in answer.figures.items())
    return (
        f'<section><h2 id="{name}">{escape(answer.title)}</h2>'
        f'<p class="question">{escape(answer.question)}</p><p>{escape(answer.text)}</p>'
        f'<div class="figures">{figures}</div>{_table(answer.header, answer.rows)}</section>\n'
    )


def _figure(file: Path, caption: str) -> str:
    source = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    return f"<td{' class=no' if value is False else ''}>{escape(common.text(value))}</td>"
