"""What a command writes: numbers as JSON, tables of text."""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg import _tables


def save_json(path: Path, value: Any) -> None:
    """Write numbers as strict JSON: a number that is not finite becomes the string "nan", "inf" or "-inf"."""
    path.write_text(json.dumps(plain(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Arrays and numbers as what JSON knows."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    return value if isinstance(value, int) or math.isfinite(value) else str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of text, numbers to the right."""
    return _tables.text([list(map(str, header)), *([text(cell) for cell in row] for row in rows)])


def text(value: Any) -> str:
    """A cell of a table: five digits of a number."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, str | int):
        return str(value)
    return f"{float(value):.5g}"


def writable_folder(path: Path) -> Path:
    """Make the output folder, or raise ValueError before any work is done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written, got {path}: {error.strerror}") from None
    return path
