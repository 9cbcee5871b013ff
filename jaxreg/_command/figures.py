"""What a command draws, as files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

matplotlib.use("svg")  # no display is needed
import matplotlib.pyplot as plt


@contextlib.contextmanager
def figure(out: Path, name: str, *, size: tuple[float, float] = (6.2, 4.4)) -> Iterator[Axes]:
    """Axes of one figure, written as SVG and PNG at the end. One panel each, so that a phone can show it."""
    with drawing(out, name):
        yield plt.subplots(figsize=size, layout="constrained")[1]


@contextlib.contextmanager
def drawing(out: Path, name: str) -> Iterator[None]:
    """Whatever figure is drawn meanwhile, written as SVG and PNG at the end."""
    # Fixed ids and no date: the same numbers give the same file.
    with plt.rc_context({"font.size": 12, "svg.hashsalt": name}):
        yield
        drawn = plt.gcf()
        drawn.savefig(out / f"{name}.svg", dpi=150, metadata={"Date": None})
        drawn.set_layout_engine("none")  # it is laid out; a second time would cost as much as the drawing
        drawn.savefig(out / f"{name}.png", dpi=150)
        plt.close(drawn)
