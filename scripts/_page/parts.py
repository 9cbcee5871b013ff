"""Pieces of the page that the documentation shows too: figures with their knobs, published numbers, tables.

They are made of what ``reproduce.py`` has written: ``results.json``, ``page.json`` and the figures beside them.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import _lesson

from _page import turned
from jaxreg._command.output import text

HERE = Path(__file__).parent
RUNS = {  # id of a published run -> how it is called
    "ohm": "Ohm's law",
    "planck": "Planck's law",
    "lr_0.003": "learning rate 0.003",
    "lr_0.03": "learning rate 0.03",
    "lr_0.3": "learning rate 0.3",
    "lr_3": "learning rate 3",
    "last_batch": "the last batch",
    "absolute": "absolute loss",
    "absolute_leverage": "absolute loss, bad row",
    "squared_leverage": "squared loss, bad row",
    "huber_leverage": "Huber's loss, bad row",
}
EXERCISE = dict.fromkeys(RUNS, "losses") | {run: run for run in ("ohm", "planck", "last_batch")}
EXERCISE |= {run: "learning_rates" for run in RUNS if run.startswith("lr_")}


def shown(answer: Any) -> dict[str, Any]:
    """What page.json keeps of an exercise's answer."""
    return {"knob": answer.knob.named(), "figures": answer.figures, "header": answer.header, "rows": answer.rows}


def kept(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """results.json and page.json of a folder."""
    results, page = (json.loads((folder / f"{name}.json").read_bytes()) for name in ("results", "page"))
    return results, page


def words(results: Mapping[str, Any], name: str) -> list[_lesson.Block]:
    """The text of an exercise with its numbers."""
    return _lesson.words(name, results["exercises"][name], results["environment"])


def slots(folder: Path, name: str, results: Mapping[str, Any], page: Mapping[str, Any]) -> Callable[[str], str]:
    """What goes into the slots of an exercise's text, with its figures from the folder."""
    mine, rows = page[name], [row for row in results["published"] if EXERCISE[row["id"]] == name]
    first, *others = [_figure(folder / file, caption) for file, caption in mine["figures"].items()]
    table = f"<div class=scroll>{_table(mine['header'], mine['rows'])}</div>"
    made = {
        "knob": turned.html(name, mine["knob"], first),
        "published": f"<div class=strips>{''.join(map(_number, rows))}</div>",
        "more": "<details><summary>More figures and numbers</summary>"
        f"<div class=figures>{''.join(others)}</div>{table}</details>",
    }
    return made.__getitem__


def verdict(results: Mapping[str, Any], link: str) -> str:
    """All published numbers as dots at their places among the replicates; ``link`` leads to an exercise, {}."""
    strips = []
    for run, name in RUNS.items():
        where = link.format(EXERCISE[run])
        rows = [row for row in results["published"] if row["id"] == run]
        # Dots at one place stand side by side.
        places = [row["percentile"] for row in rows]
        dots = "".join(_dot(row, where, places[:index].count(places[index])) for index, row in enumerate(rows))
        strips.append(_strip(f'<a class=name href="{where}">{name}</a>', dots))
    scale = "<span class=scale><span>lowest</span><span>median</span><span>highest</span></span>"
    strips.append(f"<div class=strip><span class=name></span>{scale}</div>")
    nans = "A number published as nan stands at the share of the replicates that end so; 0.5 % of them must."
    return f"<div class=strips>{''.join(strips)}<p>{nans}</p></div>"


def style() -> str:
    """How these pieces look."""
    return (HERE / "parts.css").read_text(encoding="utf-8")


def script(*names: str) -> str:
    """What draws and turns the knobs of these exercises."""
    files = [HERE / "plot.js", HERE / "knob.js", *(HERE / "knobs" / f"{name}.js" for name in names)]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return f'(() => {{\n{code}\ndocument.querySelectorAll(".knob").forEach(turn);\n}})();'


def _figure(file: Path, caption: str) -> str:
    svg, png = (file.with_name(f"{file.name}.{suffix}") for suffix in ("svg", "png"))
    kind, made = ("svg+xml", svg) if svg.exists() else ("png", png)  # the documentation keeps no SVG
    source = base64.b64encode(made.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{source}" alt="{escape(caption)}" loading=lazy>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _number(row: Mapping[str, Any]) -> str:
    """A published number, where it is among the replicates, and their range."""
    name = f"<span class=name>{RUNS[row['id']]}, <code>{escape(row['parameter'])}</code></span>"
    values = f"{_said(row['published'])} in {_said(row['low'])} … {_said(row['high'])}"
    if row["published"] == "nan":
        values = f"nan, {_place(row)}"
    return _strip(name, _dot(row), f"<span class=values>{values}</span>")


def _strip(name: str, dots: str, values: str = "") -> str:
    return f"<div class=strip>{name}<span class=range>{dots}</span>{values}</div>"


def _dot(row: Mapping[str, Any], link: str = "", beside: int = 0) -> str:
    said = escape(f"{row['parameter']}: {_said(row['published'])} was published, {_place(row)}")
    tag, rest = ("a", f'href="{link}"') if link else ("span", "role=img")
    kind = "dot" if row["inside"] else "dot outside"
    place = 100 if row["percentile"] == "nan" else row["percentile"]
    aside = 0.6 * beside * (1 if place < 50 else -1)  # to where there is room
    style = f"left:calc({place:.4g}% + {aside:g}rem)" if beside else f"left:{place:.4g}%"
    return f'<{tag} {rest} class="{kind}" style="{style}" title="{said}" aria-label="{said}"></{tag}>'


def _place(row: Mapping[str, Any]) -> str:
    if row["percentile"] == "nan":
        return "and no replicate ends in a number"
    share = f"{row['percentile']:.3g} % of the replicates"
    if row["published"] == "nan":
        return f"as {share} end"
    return f"above {share}, whose middle 99 % lie from {_said(row['low'])} to {_said(row['high'])}"


def _said(value: Any) -> str:
    return value if isinstance(value, str) else _lesson.number(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
