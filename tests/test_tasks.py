"""docs/tasks.md: ten tasks in two programs each, of which ours is no longer, and which print the same."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text()
SECTIONS = re.findall(r"^## (\d+)\. ([^\n]*)\n(.*?)(?=^## )", PAGE, flags=re.DOTALL | re.MULTILINE)


class Program(NamedTuple):
    """One of the two of a task."""

    library: str
    text: str
    output: str

    @property
    def num_lines(self):
        return sum(bool(line.strip()) and not line.strip().startswith("#") for line in self.text.splitlines())


def programs(section):
    fence = r"```(?:\{code-block\} )?%s\n(.*?)^```\n"
    found = re.findall(
        r"^\*\*([^\n]*)\*\*\n\n" + fence % "python" + r"\n" + fence % "text", section, flags=re.DOTALL | re.MULTILINE
    )
    return [Program(*one) for one in found]


@pytest.mark.parametrize(("number", "title", "section"), SECTIONS, ids=[number for number, *_ in SECTIONS])
def test_ours_is_no_longer_and_says_the_same(number, title, section):
    ours, theirs = programs(section)
    assert ours.library == "jaxreg"
    assert ours.num_lines <= theirs.num_lines
    assert ours.output == theirs.output
    assert max(map(len, (ours.text + theirs.text).splitlines())) <= 88
    row = f"| {number}. {title} | {ours.num_lines} | {theirs.num_lines} | {theirs.library} |"
    assert row in PAGE.splitlines()


def test_the_table_counts_all_ten():
    rows = re.findall(r"^\| (\d+)\. ", PAGE, flags=re.MULTILINE)
    assert rows == [number for number, *_ in SECTIONS] == [str(number) for number in range(1, 11)]
