"""The model that an argument names: one of the package's, a formula, or a function of a file."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from jaxreg import models
from jaxreg.models import Apply, Model

NAMED = {
    "exponential": models.exponential(),
    "exponential-offset": models.exponential(offset=True),
    "gaussian": models.gaussian(),
    "gaussian-offset": models.gaussian(offset=True),
    "ohm": models.ohm(),
    "planck": models.planck(),
    "planck-gain": models.planck(gain=True),
}


_OF_FILE = re.compile(r"(.+\.py):(\w+)")


def model_of(text: str, columns: Sequence[str]) -> Model | Apply:
    """The model, of x = these columns."""
    if found := _OF_FILE.fullmatch(text):
        return _of_file(text, Path(found[1]), found[2])
    if text in NAMED:
        if len(columns) > 1:
            raise ValueError(f"x must be one column for the model {text}, got {len(columns)}")
        return NAMED[text]
    variables = _variables(len(columns))
    if text == "linear":
        # Of x alone, whatever the columns are called.
        terms = [f"{name.replace('x', 'w')}*{name}" for name in variables]
        return models.expression(" + ".join(["b", *terms]), independent=variables)
    if text.isidentifier():
        known = ", ".join(NAMED)
        raise ValueError(f"model must be a formula, one of linear, {known}, or FILE.py:NAME, got {text!r}")
    return models.expression(text, independent=_named(text, columns, variables))


def _variables(count: int) -> list[str]:
    return ["x"] if count == 1 else [f"x{place}" for place in range(1, count + 1)]


def _named(text: str, columns: Sequence[str], variables: Sequence[str]) -> list[str]:
    """What each column is called in a formula: as it is itself, or x; never both, since one would be a parameter."""
    used = models.expression_names(text)
    found = []
    for own, variable in zip(columns, variables, strict=True):
        names = [name for name in dict.fromkeys((own, variable)) if name in used]
        if not names:
            raise ValueError(f"model must depend on {variable}, which is the column {own!r}, got {text!r}")
        if len(names) > 1:
            raise ValueError(
                f"model must have one name for the column {own!r}, got {own} and {variable}: if one of them is a "
                "parameter, give it another name"
            )
        found += names
    if doubled := [name for name in found if found.count(name) > 1]:
        raise ValueError(f"model must have one column for each name, got {doubled[0]} for two of --x: rename a column")
    strays = [name for name in used if re.fullmatch(r"x\d*", name) and name not in found]
    if strays and len(columns) > 1:
        raise ValueError(f"model must have {', '.join(found)} for the columns of --x, got {strays[0]} too")
    return found


def _of_file(text: str, path: Path, name: str) -> Model | Apply:
    """The user's own, whose file is run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"model must be in a file that there is, got {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # as dataclasses want it
    sys.path.append(str(path.parent))  # for what lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(failure(text, error)) from error
    found = getattr(module, name, None)
    if not callable(found) and not isinstance(found, Model):
        raise ValueError(f"{path} has no function or Model {name!r}")
    return found


def failure(text: str, error: Exception) -> str | None:
    """What went wrong in the file of a user's model, and where; None for a model of another kind."""
    if not (found := _OF_FILE.fullmatch(text)):
        return None
    file, frames = Path(found[1]).absolute(), traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
    return f"{found[1]}{f', line {lines[-1]}' if lines else ''}: {type(error).__name__}: {error}"
