"""Pieces of the page that the documentation shows too: figures with their knobs, published numbers, tables.

They are made of what ``reproduce.py`` has written: ``results.json``, ``page.json`` and the figures beside them.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import _lesson
import numpy as np

from jaxreg._command import output

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


class Slider(NamedTuple):
    """Positions 0 … count - 1 of something; the drawing says what each stands for."""

    name: str
    label: str
    count: int
    start: int


class Choice(NamedTuple):
    """One of a few things."""

    name: str
    label: str
    options: Mapping[str, str]  # value -> what is read


class Knob(NamedTuple):
    """A figure that is turned: knobs/NAME.js draws it from the data."""

    controls: Sequence[Slider | Choice]
    data: Mapping[str, Any]  # numbers, lists of numbers, and arrays that are ``packed``
    charts: int = 1

    def plain(self) -> dict[str, Any]:
        """As what JSON knows."""
        controls = [control._asdict() for control in self.controls]
        return {"controls": controls, "data": self.data, "charts": self.charts}


def shown(answer: Any) -> dict[str, Any]:
    """What page.json keeps of an exercise's answer."""
    return {"knob": answer.knob.plain(), "figures": answer.figures, "header": answer.header, "rows": answer.rows}


def packed(values: Any) -> dict[str, Any]:
    """An array for a knob in single precision, a third of its size as text."""
    array = np.ascontiguousarray(values, "<f4")
    return {"float32": base64.b64encode(array.tobytes()).decode(), "shape": list(array.shape)}


def numbers(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the text of an exercise may name: what it measured, and how."""
    return {**results["exercises"][name], **{key: results["environment"][key] for key in ("replicates", "seed")}}


def slots(
    folder: Path, name: str, results: Mapping[str, Any], page: Mapping[str, Any], suffix: str = ".svg"
) -> Callable[[str], str]:
    """What goes into the slots of an exercise's text, with its figures from the folder."""
    mine, rows = page[name], [row for row in results["published"] if EXERCISE[row["id"]] == name]
    first, *others = [_figure(folder / f"{file}{suffix}", caption) for file, caption in mine["figures"].items()]
    table = f"<div class=scroll>{_table(mine['header'], mine['rows'])}</div>"
    made = {
        "knob": _knob(name, mine["knob"], first),
        "published": f"<div class=strips>{''.join(map(_number, rows))}</div>",
        "more": f"<details><summary>More figures and numbers</summary><div class=figures>{''.join(others)}</div>{table}</details>",
    }
    return made.__getitem__


def verdict(results: Mapping[str, Any], link: str) -> str:
    """All published numbers as dots at their places among the replicates; ``link`` leads to an exercise, {}."""
    rows, strips = results["published"], []
    for run in dict.fromkeys(row["id"] for row in rows):
        where = link.format(EXERCISE[run])
        dots = "".join(_dot(row, where) for row in rows if row["id"] == run)
        strips.append(
            f'<div class=strip><a class=name href="{where}">{RUNS[run]}</a><span class=range>{dots}</span></div>'
        )
    scale = "<div class=strip><span class=name></span><span class=scale><span>lowest</span><span>median</span><span>highest</span></span></div>"
    return f"<div class=strips>{''.join(strips)}{scale}</div>"


def style() -> str:
    """How these pieces look."""
    return (HERE / "parts.css").read_text(encoding="utf-8")


def script(*names: str) -> str:
    """What draws and turns the knobs of these exercises."""
    files = [HERE / "plot.js", HERE / "knob.js", *(HERE / "knobs" / f"{name}.js" for name in names)]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return f'(() => {{\n{code}\ndocument.querySelectorAll(".knob").forEach(turn);\n}})();'


def _knob(name: str, knob: Mapping[str, Any], figure: str) -> str:
    controls = "".join(_slider(name, one) if "count" in one else _choice(name, one) for one in knob["controls"])
    # What ends a script inside JSON is written so that it does not.
    data = json.dumps(output.plain(knob["data"]), allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        f'<figure class=knob id="knob-{name}" data-knob="{name}"><noscript>{figure}</noscript>'
        f"<div class=controls>{controls}</div><div class=charts>{'<div class=chart></div>' * knob['charts']}</div>"
        f'<p class=readout aria-live=polite></p><script type="application/json">{data}</script></figure>'
    )


def _slider(name: str, one: Mapping[str, Any]) -> str:
    return (
        f'<label>{escape(one["label"])} <output></output><input type=range name="{name}-{one["name"]}" '
        f"min=0 max={one['count'] - 1} step=1 value={one['start']}></label>"
    )


def _choice(name: str, one: Mapping[str, Any]) -> str:
    options = "".join(
        f'<label><input type=radio name="{name}-{one["name"]}" value="{escape(value)}"{" checked" * (index == 0)}>{escape(read)}</label>'
        for index, (value, read) in enumerate(one["options"].items())
    )
    return f"<fieldset><legend>{escape(one['label'])}</legend>{options}</fieldset>"


def _figure(file: Path, caption: str) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[file.suffix]
    source = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{source}" alt="{escape(caption)}" loading=lazy>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _number(row: Mapping[str, Any]) -> str:
    """A published number, where it is among the replicates, and their range."""
    return (
        f"<div class=strip><span class=name>{RUNS[row['id']]}, <code>{escape(row['parameter'])}</code></span>"
        f"<span class=range>{_dot(row)}</span><span class=values>{_said(row['published'])} "
        f"in {_said(row['low'])} … {_said(row['high'])}</span></div>"
    )


def _dot(row: Mapping[str, Any], link: str = "") -> str:
    said = f"{row['parameter']}: published {output.text(row['published'])}, {_place(row)}"
    where = f' href="{link}"' if link else ""
    kind = "dot" if row["inside"] else "dot outside"
    return f'<a class="{kind}" style="left:{row["percentile"]:.4g}%"{where} title="{escape(said)}" aria-label="{escape(said)}"></a>'


def _place(row: Mapping[str, Any]) -> str:
    if row["published"] == "nan":
        return f"as {row['percentile']:.3g} % of the replicates"
    return f"above {row['percentile']:.3g} % of the replicates, whose middle 99 % end between {_said(row['low'])} and {_said(row['high'])}"


def _said(value: Any) -> str:
    return value if isinstance(value, str) else _lesson.number(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(output.text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
