"""The report as one HTML page that opens without a network, made of the files that ``reproduce.py`` has written."""

from html import escape
from pathlib import Path

import _lesson

from _page import parts

TITLE = "Nine questions about gradient descent"


def write(folder: Path) -> None:
    """Write index.html from results.json, page.json and the figures in the folder."""
    (folder / "index.html").write_text(html(folder), encoding="utf-8")


def html(folder: Path) -> str:
    """The page of what is in the folder."""
    results, page = parts.kept(folder)
    environment, rows = results["environment"], results["published"]
    texts = {name: parts.words(results, name) for name in page}
    links = "".join(f'<li><a href="#{name}">{escape(_lesson.title(text))}</a></li>' for name, text in texts.items())
    sections = "".join(
        f'<section id="{name}">{_lesson.html(text, parts.slots(folder, name, results, page))}</section>\n'
        for name, text in texts.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<style>{parts.style()}{(parts.HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{TITLE}</h1>
<p>Fit a line, Ohm's law and Planck's law, and turn the knobs: behind each stand thousands of runs, made when this page
was written, with what theory says drawn over them.</p>
<nav><ol>{links}</ol></nav>
<h2 id="published">Could it have come out so?</h2>
<p><strong>{sum(row["inside"] for row in rows)} of {len(rows)}</strong> published numbers lie among the middle 99 % of
{environment["replicates"]} replicates. Each dot is a published number, at its place among the replicates; it leads to
its exercise.</p>
{parts.verdict(results, "#{}")}
{sections}
</main>
<footer><p>Seed {environment["seed"]}, {environment["dtype"]}, {escape(environment["device"])}; {escape(versions)}.</p>
</footer>
<script>{parts.script(*page)}</script>
</body>
</html>
"""
