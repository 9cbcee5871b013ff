"""Columns of a file: text (CSV), Excel or Parquet. What is wrong is said by line and column; cells may be empty."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxreg._command.arguments import number, words

_EMPTY = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}
_POINT, _COMMA = (re.compile(rf"\s*[-+]?\d*{mark}\d+(e[-+]?\d+)?\s*", re.IGNORECASE) for mark in (r"\.", ","))
_READERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # pandas' and what it needs
    # The header as a row, in which equal names stay equal.
    ".xlsx": ("read_excel", "openpyxl", {"header": None, "engine": "openpyxl"}),
    ".parquet": ("read_parquet", "pyarrow", {}),
}


class Table(NamedTuple):
    """A header and rows of cells, each with its line in the file."""

    path: Path
    names: list[str]
    rows: list[tuple[int, list[Any]]]
    decimal_commas: bool = False  # in the file; the cells have points

    def split(self, option: str, text: str) -> Sequence[str]:
        """The columns that an argument names; a comma may also be part of one's name."""
        return [text] if text in self.names else words(option, text)

    def complete(self, names: Sequence[str]) -> "Table":
        """Without the rows in which a cell of these columns is empty."""
        places = [self._place(name) for name in names]
        kept = [(line, row) for line, row in self.rows if not any(_is_empty(row[place]) for place in places)]
        if not kept:
            raise ValueError(f"{self.path} has no row in which none of {', '.join(map(repr, names))} is empty")
        return self._replace(rows=kept)

    def column(self, name: str) -> np.ndarray:
        """The finite numbers of a column."""
        place = self._place(name)
        return np.array([number(f"{self.path}, line {line}, column {name!r}", row[place]) for line, row in self.rows])

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """(rows, columns), or (rows,) of a single one."""
        found = np.stack([self.column(name) for name in names], axis=1)
        return found[:, 0] if len(names) == 1 else found

    def labels(self, name: str) -> list[Any]:
        """The cells of a column: numbers if all are, else text; 007 is a name, and text."""
        cells = [row[self._place(name)] for _, row in self.rows]
        texts = [str(cell).strip() for cell in cells]
        try:
            found = [number(name, cell) for cell in cells]
        except ValueError:
            return texts
        if any(text not in (str(value), f"{value:.0f}") for text, value in zip(texts, found, strict=True)):
            return texts
        return [int(value) if value.is_integer() else value for value in found]

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"{self.path} has no column {name!r}, only {', '.join(map(repr, self.names))}")
        if (times := self.names.count(name)) > 1:
            raise ValueError(f"{self.path} has {times} columns {name!r}: give each a name of its own")
        return self.names.index(name)


def read(path: Path) -> Table:
    """A file with a header: Excel's first sheet, Parquet, or text in which lines after # and empty ones are skipped."""
    table = _from_pandas(path) if path.suffix.lower() in _READERS else _from_text(path)
    rows = [(line, row) for line, row in table.rows if not all(map(_is_empty, row))]
    if not rows:
        raise ValueError(f"{path} must have a header and at least one row")
    return table._replace(rows=rows)


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _EMPTY)


def _from_text(path: Path) -> Table:
    """Fields between commas, semicolons or tabs; between the latter two a comma may be the decimal one."""
    numbered = enumerate(io.StringIO(_text(path), newline=None), 1)
    lines = [(place, line) for place, line in numbered if line.strip() and line[0] != "#"]
    delimiter = max(",;\t", key=lines[0][1].count) if lines else ","
    reader = csv.reader([line for _, line in lines], delimiter=delimiter, skipinitialspace=True)
    try:
        # A quoted cell may go over several lines.
        rows = [(lines[reader.line_num - 1][0], row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines[reader.line_num - 1][0]}: {error}") from None
    names = [name.strip() for name in rows[0][1]] if rows else []
    for line, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{path}, line {line}: {len(names)} columns wanted, got {len(row)}")
    cells = [cell for _, row in rows[1:] for cell in row] if delimiter != "," else []
    if commas := any(map(_COMMA.fullmatch, cells)) and not any(map(_POINT.fullmatch, cells)):
        rows = [(line, [c.replace(",", ".") if _COMMA.fullmatch(c) else c for c in row]) for line, row in rows]
    return Table(path, names, rows[1:], commas)


def _text(path: Path) -> str:
    """UTF-8 or, as Excel writes text, UTF-16 with its mark or Windows' own letters."""
    try:
        data = path.read_bytes()
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    if "\0" in text:
        raise ValueError(f"{path} cannot be read: not text")
    return text


def _from_pandas(path: Path) -> Table:
    reader, package, options = _READERS[path.suffix.lower()]
    try:
        import pandas

        frame = getattr(pandas, reader)(path, **options)
    except ImportError:
        raise ImportError(f"{path} needs pandas and {package}: pip install pandas {package}") from None
    except Exception as error:  # each reader has its own for a file that is none of its kind
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    header, rows = (rows[0], rows[1:]) if rows and "header" in options else (list(frame.columns), rows)
    return Table(path, ["" if name is None else str(name).strip() for name in header], list(enumerate(rows, 2)))
