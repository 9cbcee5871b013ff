"""The fenced blocks of a page."""

import re
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block and the output that is shown after it, if any."""

    language: str
    text: str
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page in their order."""
    fences = re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    following = [*fences, ("", "")][1:]
    return [
        Block(language, text, after[1] if after[0] == "text" else None)
        for (language, text), after in zip(fences, following, strict=True)
    ]
