"""Columns of numbers from a CSV file, or one line that says what is wrong with it."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named columns of a CSV file with a header line, in float64.

    Raises:
        ValueError: for a file that cannot be read, a missing column, and the first cell that is not a finite number,
            by its line in the file and its column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            for name in names:
                if header.count(name) != 1:
                    times = f"{header.count(name)} times" if name in header else "not there"
                    raise ValueError(f"column {name!r} must be in {path} once, it is {times}: {', '.join(header)}")
            places = {name: header.index(name) for name in names}
            columns: dict[str, list[float]] = {name: [] for name in names}
            for row in rows:
                if not row:
                    continue
                for name, place in places.items():
                    cell = row[place].strip() if place < len(row) else ""
                    columns[name].append(_number(cell, f"{path}, line {rows.line_num}, column {name!r}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"data must be a CSV file that can be read, got {path}: {reason}") from None
    if not columns[names[0]]:
        raise ValueError(f"data must have at least one row, got none in {path}")
    return {name: np.array(values) for name, values in columns.items()}


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{where} must be a number, got {cell!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{where} must be finite, got {cell!r}")
    return number
