"""Every Python block of the README runs, in order, and prints the text block that follows it."""

import contextlib
import io
import re
from pathlib import Path

import jax

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one block saves its figure
    pairs = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, flags=re.DOTALL)
    assert len(pairs) == README.count("```python")
    namespace: dict[str, object] = {}
    try:
        for code, expected in pairs:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            assert printed.getvalue() == expected
    finally:
        jax.config.update("jax_enable_x64", False)
