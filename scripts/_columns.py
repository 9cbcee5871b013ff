"""Columns of numbers from a CSV file; what is wrong with it is said by line and column."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """A header and rows of text, each with its line in the file."""

    path: Path
    names: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> np.ndarray:
        """The finite numbers of a column."""
        if name not in self.names:
            raise ValueError(f"{self.path} has no column {name!r}, only {', '.join(map(repr, self.names))}")
        place = self.names.index(name)
        return np.array([number(f"{self.path}, line {line}, column {name!r}", row[place]) for line, row in self.rows])

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """(rows, columns), or (rows,) of a single one."""
        found = np.stack([self.column(name) for name in names], axis=1)
        return found[:, 0] if len(names) == 1 else found


def read(path: Path) -> Table:
    """A file with a header, fields between commas, semicolons or tabs; lines after # and empty ones are skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if len(lines) < 2:
        raise ValueError(f"{path} must have a header and at least one row, got {len(lines)} lines")
    delimiter = max(",;\t", key=lines[0][1].count)
    fields = [next(csv.reader([line], delimiter=delimiter, skipinitialspace=True)) for _, line in lines]
    names = [name.strip() for name in fields[0]]
    for (number, _), row in zip(lines, fields, strict=True):
        if len(row) != len(names):
            raise ValueError(f"{path}, line {number}: {len(names)} columns wanted, got {len(row)}")
    return Table(path, names, [(number, row) for (number, _), row in zip(lines[1:], fields[1:], strict=True)])


def number(what: str, text: str) -> float:
    """A finite number; ``what`` it is goes into the message."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {text.strip()!r}")
    return value
