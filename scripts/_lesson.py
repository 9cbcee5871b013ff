"""An exercise's words: ``docs/exercises/NAME.md``, one text for the page, the documentation and the terminal.

It is Markdown of few kinds: a title, the question in italics, paragraphs, lists, fenced code, and formulas as MathML.
Numbers are fields of ``str.format`` that name what the exercise measured, ``{edge[median_measured]:.3f}``. A paragraph
that is one of ``SLOTS`` says where a figure or a table goes.
"""

import re
import string
from collections.abc import Callable, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "docs" / "exercises"
SLOTS = ("{knob}", "{published}", "{more}")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Block(NamedTuple):
    """A piece of a text."""

    kind: str  # title, question, heading, paragraph, list, formula, slot, code or output
    text: str  # without what marks its kind


def read(name: str) -> list[Block]:
    """The text of an exercise, its numbers not yet filled in."""
    blocks, text = [], (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for part in re.split(r"^(```\w+\n.*?^```)$", text, flags=re.MULTILINE | re.DOTALL):
        fence = re.fullmatch(r"```(\w+)\n(.*)```", part, re.DOTALL)
        if fence:
            blocks.append(Block("output" if fence[1] == "text" else "code", fence[2]))
        else:
            blocks += [_block(piece.strip()) for piece in re.split(r"\n\s*\n", part) if piece.strip()]
    return blocks


def words(name: str, measured: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Block]:
    """The text of an exercise with what it measured, how many replicates and which seed."""
    return filled(read(name), {**measured, **{key: settings[key] for key in ("replicates", "seed")}})


def filled(blocks: list[Block], measured: Mapping[str, Any]) -> list[Block]:
    """The blocks with their numbers."""
    fixed = ("code", "output", "slot")
    return [block if block.kind in fixed else Block(block.kind, _numbers(block.text, measured)) for block in blocks]


def title(blocks: list[Block]) -> str:
    """The title."""
    return next(block.text for block in blocks if block.kind == "title")


def answer(blocks: list[Block]) -> str:
    """Title, question and answer for a terminal: all before the first slot."""
    end = next(index for index, block in enumerate(blocks) if block.kind == "slot")
    return "\n\n".join(unescape(re.sub(r"<[^>]+>|[*`]", "", block.text)) for block in blocks[:end])


def html(blocks: list[Block], slot: Callable[[str], str]) -> str:
    """The blocks but for the title as HTML; ``slot(name)`` is what goes into a slot."""
    return "\n".join(slot(block.text) if block.kind == "slot" else _html(block) for block in blocks)


def markdown(blocks: list[Block], slot: Callable[[str], str]) -> str:
    """The blocks as Markdown again; ``slot(name)`` is what goes into a slot."""
    written = {"title": "# {}", "question": "*{}*", "heading": "## {}", "formula": "<div class=math>{}</div>"}
    written |= {"code": "```python\n{}```", "output": "```text\n{}```"}
    return "\n\n".join(
        slot(text) if kind == "slot" else written.get(kind, "{}").replace("{}", text) for kind, text in blocks
    )


def _block(piece: str) -> Block:
    if piece in SLOTS:
        return Block("slot", piece[1:-1])
    if piece.startswith("<math"):
        return Block("formula", piece)
    if piece.startswith("- "):
        return Block("list", piece)
    for kind, pattern in {"title": r"# (.*)", "heading": r"## (.*)", "question": r"\*([^*]+)\*"}.items():
        if found := re.fullmatch(pattern, piece, re.DOTALL):
            return Block(kind, found[1])
    return Block("paragraph", piece)


def number(value: float, spec: str = ".4g") -> str:
    """A number as a sentence has it: 34 % by the spec ".0%", and 4.8·10⁻⁵ for 4.8e-05."""
    if spec.endswith("%"):
        return number(100 * value, f"{spec[:-1]}f") + " %"
    mantissa, _, power = format(value, spec).partition("e")
    written = f"{mantissa}·10{str(int(power)).translate(_SUPERSCRIPTS)}" if power else mantissa
    return written.replace("-", "−")


class _Words(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        # What is not finite is text in results.json, and stays.
        return value if isinstance(value, str) else number(value, format_spec)


def _numbers(text: str, measured: Mapping[str, Any]) -> str:
    return _Words().vformat(text, (), measured)


def _html(block: Block) -> str:
    kind, text = block
    if kind in ("code", "output"):
        return f"<pre class={kind}><code>{escape(text)}</code></pre>"
    if kind == "list":
        items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
    if kind == "formula":
        return f"<div class=math>{text}</div>"
    opened = {"title": "h2", "heading": "h3", "question": "p class=question"}.get(kind, "p")
    return f"<{opened}>{_inline(text)}</{opened.split()[0]}>"


def _inline(text: str) -> str:
    """Code, emphasis and links to files beside the text."""
    text = re.sub(r"`([^`]+)`", lambda found: f"<code>{escape(found[1])}</code>", text)
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
    return re.sub(
        r"\[([^\]]+)\]\(([^)]+)\)",
        lambda found: f'<a href="{(FOLDER / found[2]).resolve().as_uri()}">{found[1]}</a>',
        text,
    )
