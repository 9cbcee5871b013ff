"""What the commands' arguments have in common: one line for what is wrong, words and numbers with commas between."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxreg._command import cache


class Parser(argparse.ArgumentParser):
    """Answers bad arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked of a command; from here on its programs are kept, unless --no-cache is asked for too."""
    place = str(cache.folder()).replace("%", "%%")
    parser.add_argument("--no-cache", action="store_true", help=f"keep no compiled programs in {place}, and read none")
    write_any_letter()
    given = parser.parse_args(arguments)
    if not given.no_cache:
        cache.switch_on()
    return given


def write_any_letter() -> None:
    """Output in UTF-8 on Windows, and ? for what a terminal does not know, such as χ or ²."""
    told = sys.platform != "win32" or "PYTHONIOENCODING" in os.environ
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=None if told else "utf-8", errors="replace")


def refuse(program: str, error: Exception) -> int:
    """Say in one line what is wrong with the input; the exit code."""
    print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def words(name: str, text: str) -> Sequence[str]:
    """What stands between commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{name} must be words or numbers with commas between, got {text!r}")
    return parts


def number(what: str, value: Any) -> float:
    """A finite number; ``what`` it is goes into the message."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{what} must be a finite number, got {str(value).strip()!r}")
    return found


def pairs(option: str, text: str, names: Sequence[str] | None, *, bare: bool = False) -> list[tuple[str, str]]:
    """Pairs of a parameter's name, one of these if any are said, and what is written behind its equals sign."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if names is not None and name not in names:
            raise ValueError(f"{option} must name parameters of the model, {', '.join(names)}, got {name!r}")
        if not (value or (bare and not equals)):
            raise ValueError(f"{option} must be written as in {(names or [name])[0]}=1, got {part!r}")
        found.append((name, value))
    return found


def bounds_of(text: str, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Lower and upper bounds of all parameters from a=0:10,b=:5."""
    lower, upper = dict.fromkeys(names, -math.inf), dict.fromkeys(names, math.inf)
    for name, span in pairs("bounds", text, names):
        low, colon, high = span.partition(":")
        if not colon:
            raise ValueError(f"bounds must be written as in {name}=0:10, got {span!r}")
        lower[name] = number("bounds", low) if low.strip() not in ("", "-inf") else -math.inf
        upper[name] = number("bounds", high) if high.strip() not in ("", "inf") else math.inf
        if not lower[name] <= upper[name]:
            raise ValueError(f"bounds must be in order, got {name}={span}")
    return lower, upper
