"""Readers of NIST's Statistical Reference Datasets (https://www.itl.nist.gov/div898/strd/): .dat files and JSON."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from jaxreg import models


class Problem(NamedTuple):
    """A reference problem with its certified answer."""

    name: str
    linear: bool
    model: jaxreg.Model
    x: np.ndarray
    y: np.ndarray
    starts: list[dict[str, float] | None]  # None where the model is linear and guesses
    params: dict[str, float]
    stderr: dict[str, float]
    residual_deviation: float

    @property
    def exact(self) -> bool:
        """Whether the certified fit goes through the data to rounding, so that its errors are rounding too."""
        return self.residual_deviation <= 1e-12 * float(np.abs(self.y).max())


def read(path: Path) -> Problem:
    """A problem from a file; ValueError says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        return _from_json(text) if path.suffix == ".json" else _from_dat(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a NIST reference data set: {error}") from None


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?"
_ROW = re.compile(rf"\s*(b\d+)\s*=\s*((?:{_NUMBER}\s*)+)$", re.IGNORECASE)
_STATEMENT = re.compile(r"\s*([A-Za-z]\w*|[A-Za-z]\w*\s*[\[(]\s*\w+\s*[\])])\s*=(.*)")


def _from_dat(text: str) -> Problem:
    lines = text.splitlines()
    name = _field(text, r"Dataset Name:\s*(\w+)")
    first = _index(lines, r"\s*Model:")
    table = _index(lines, r"\s*Starting values", after=first)
    data = _index(lines, r"\s*Data:\s+y\b", after=table)

    rows = [found for line in lines[table:data] if (found := _ROW.match(line))]
    if not rows:
        raise ValueError("no parameters under 'Starting values'")
    names = [row[1] for row in rows]
    numbers = np.array([_floats(row[2], 4) for row in rows])

    variables = lines[data].split()[2:]
    values = np.array([_floats(line, 1 + len(variables)) for line in lines[data + 1 :] if line.strip()])
    response, model = _model(lines[first + 1 : table], names, variables)
    columns = values[:, 1:]
    return Problem(
        name=name,
        linear=False,
        model=model,
        x=columns[:, 0] if len(variables) == 1 else columns,
        y=response(values[:, 0]),
        starts=[dict(zip(names, numbers[:, column].tolist(), strict=True)) for column in (0, 1)],
        params=dict(zip(names, numbers[:, 2].tolist(), strict=True)),
        stderr=dict(zip(names, numbers[:, 3].tolist(), strict=True)),
        residual_deviation=_floats(_field(text, r"Residual Standard Deviation:\s*(\S+)"), 1)[0],
    )


def _model(
    lines: Sequence[str], names: Sequence[str], variables: Sequence[str]
) -> tuple[Callable[[np.ndarray], np.ndarray], jaxreg.Model]:
    """What is done to the response, and the model, from lines such as ``log[y] = b1 - b2*x1 * exp[-b3*x2]  +  e``."""
    statements: list[tuple[str, str]] = []
    for line in lines:
        if found := _STATEMENT.match(line):
            statements.append((found[1], found[2]))
        elif statements:
            statements[-1] = (statements[-1][0], f"{statements[-1][1]} {line.strip()}")
    if not statements:
        raise ValueError("no equation under 'Model:'")
    *definitions, (left, right) = statements
    constants = {name: _floats(value, 1)[0] for name, value in definitions}
    right = re.sub(r"\+\s*e\s*$", "", right.strip())  # the error term
    model = models.expression(right, independent=variables, parameters=names, constants=constants)
    if left.strip() == "y":
        return lambda y: y, model
    transform = models.expression(f"unit*({left})", independent="y", parameters=("unit",))

    def response(y: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(transform.apply({"unit": 1.0}, jnp.asarray(y)))

    return response, model


def _from_json(text: str) -> Problem:
    given = json.loads(text)
    x, certified = np.array(given["x"], float), given["certified"]
    variables = ["x"] if x.ndim == 1 else [f"x{column}" for column in range(1, x.shape[1] + 1)]
    names = [f"b{number}" for number in range(1, len(certified["params"]) + 1)]
    starts = [dict(zip(names, map(float, start), strict=True)) for start in given.get("starts", [])]
    return Problem(
        name=given["name"],
        linear=given.get("kind") == "linear",
        model=models.expression(given["model"], independent=variables, parameters=names),
        x=x,
        y=np.array(given["y"], float),
        starts=[*starts] or [None],
        params=dict(zip(names, map(float, certified["params"]), strict=True)),
        stderr=dict(zip(names, map(float, certified["std"]), strict=True)),
        residual_deviation=float(certified["residual_sd"]),
    )


def _index(lines: Sequence[str], pattern: str, *, after: int = 0) -> int:
    for index in range(after, len(lines)):
        if re.match(pattern, lines[index], re.IGNORECASE):
            return index
    raise ValueError(f"no line like {pattern!r}")


def _field(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"no line like {pattern!r}")
    return found[1]


def _floats(text: str, count: int) -> list[float]:
    words = text.split()
    if len(words) != count:
        raise ValueError(f"{count} numbers wanted, got {text.strip()!r}")
    return [float(re.sub("[dD]", "e", word)) for word in words]
