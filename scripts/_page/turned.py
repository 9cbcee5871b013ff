"""A figure with knobs: what an exercise says of it, and its HTML."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np


class Slider(NamedTuple):
    """Positions 0 … num - 1 of something; the drawing says what each stands for."""

    name: str
    label: str
    num: int
    start: int


class Choice(NamedTuple):
    """One of a few things; the first is chosen at the start."""

    name: str
    label: str
    options: Mapping[str, str]  # value -> what is read


class Knob(NamedTuple):
    """A figure that is turned: knobs/NAME.js draws it from the data."""

    controls: Sequence[Slider | Choice]
    data: Mapping[str, Any]  # numbers, lists of numbers, and arrays that are ``packed``
    charts: int = 1

    def named(self) -> dict[str, Any]:
        """Its fields by name, and those of its controls."""
        return {**self._asdict(), "controls": [one._asdict() for one in self.controls]}


def packed(values: Any) -> dict[str, Any]:
    """An array for a knob in single precision, a third of its size as text."""
    array = np.ascontiguousarray(values, "<f4")
    return {"float32": base64.b64encode(array.tobytes()).decode(), "shape": list(array.shape)}


def html(name: str, knob: Mapping[str, Any], figure: str) -> str:
    """The figure of a plain knob; ``figure`` is what it is without scripts."""
    controls = "".join(_slider(name, one) if "num" in one else _choice(name, one) for one in knob["controls"])
    # What would end the script, or open another in it ("<!--<script"), is written so that it does not.
    data = json.dumps(knob["data"], allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class=knob id="knob-{name}" data-knob="{name}"><noscript>{figure}</noscript>'
        f"<div class=controls>{controls}</div><div class=charts>{'<div class=chart></div>' * knob['charts']}</div>"
        f'<p class=readout aria-live=polite></p><script type="application/json">{data}</script></figure>'
    )


def _slider(name: str, one: Mapping[str, Any]) -> str:
    # A screen reader hears what the slider stands at as its value, and so not as part of its name too.
    return (
        f"<label>{escape(one['label'])} <span class=stands aria-hidden=true></span>"
        f'<input type=range name="{name}-{one["name"]}" min=0 max={one["num"] - 1} value={one["start"]}></label>'
    )


def _choice(name: str, one: Mapping[str, Any]) -> str:
    radio = f'<input type=radio name="{name}-{one["name"]}"'
    options = "".join(
        f'<label>{radio} value="{escape(value)}"{" checked" * (index == 0)}>{escape(read)}</label>'
        for index, (value, read) in enumerate(one["options"].items())
    )
    return f"<fieldset><legend>{escape(one['label'])}</legend>{options}</fieldset>"
