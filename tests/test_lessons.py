"""The exercises' texts and what the page makes of them; ``tests/test_page.py`` turns the knobs in a browser."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import _common as common  # noqa: E402
import _lesson  # noqa: E402
import _page  # noqa: E402
import reproduce  # noqa: E402
from _page import parts, turned  # noqa: E402

# The kinds of blocks in their order. Only an exercise with published numbers has a section of them.
ORDER = re.compile(
    "title question (paragraph )+slot:knob (paragraph )+"
    "heading:Why ((paragraph|formula|list) )+"
    "heading:In ten lines (paragraph )*(code output )+(paragraph )*"
    "(heading:Published (paragraph )*slot:published )?"
    "heading:Try this list slot:more"
)


@pytest.mark.parametrize("name", reproduce.EXERCISES)
def test_a_text_has_its_parts_in_their_order(name):
    blocks = _lesson.read(name)
    named = [f"{kind}:{text}" if kind in ("heading", "slot") else kind for kind, text in blocks]
    assert ORDER.fullmatch(" ".join(named)), named
    assert ("slot:published" in named) == (name in parts.EXERCISE.values())
    assert named.count("formula") <= 2
    assert next(text for kind, text in blocks if kind == "question").endswith("?")
    (tries,) = (text for kind, text in blocks if kind == "list" and f"scripts/{name}.py" in text)
    assert 2 <= len(re.findall("^- ", tries, re.MULTILINE)) <= 3
    assert "](http" not in str(blocks)


@pytest.mark.parametrize("name", reproduce.EXERCISES)
def test_a_text_names_only_what_was_measured(name, report):
    results = json.loads((report / "results.json").read_bytes())
    blocks = _lesson.read(name)
    filled = parts.words(results, name)
    fixed = ("code", "output", "slot")
    assert not [text for kind, text in filled if kind not in fixed and re.search("[{}]", text)]
    assert "{" in _lesson.answer(blocks)  # a number that was measured is in the answer
    assert "{" not in _lesson.answer(filled)


@pytest.mark.parametrize(
    ("value", "spec", "shown"),
    [(1.8851, ".3f", "1.885"), (0.344, ".0%", "34 %"), (4.8e-5, ".2g", "4.8·10⁻⁵"), (-3.3e29, ".4g", "−3.3·10²⁹"),
     (1, "d", "1"), (0.0044, ".1%", "0.4 %"), (300, "", "300")],
)  # fmt: skip
def test_a_number_is_written_as_a_sentence_has_it(value, spec, shown):
    assert _lesson.number(value, spec) == shown


MEASURED = {"edge": {"0.03": 1.885}, "rates": [0.5, 2.0], "lost": "nan"}
TEXT = """# A & B

*Is a < b?*

It is {edge[0.03]:.2f}, {rates[1]:.0%} and {lost:.1f}; *not* `x < y`, see [the script](../../scripts/ohm.py).

{knob}

## Why

<math><mi>x</mi></math>

```python
print(f"{1 < 2}")
```

```text
True
```

- one
- two
"""


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_lesson, "FOLDER", tmp_path)
    (tmp_path / "example.md").write_text(TEXT, encoding="utf-8")
    return _lesson.read("example")


def test_a_text_is_filled_and_written_as_html(blocks, tmp_path):
    written = _lesson.html(_lesson.filled(blocks, MEASURED), "<b>{}</b>".format)
    script = (tmp_path / "../../scripts/ohm.py").resolve().as_uri()
    assert written.split("\n\n") == written.split("\n\n")[:1]
    assert "It is 1.89, 200 % and nan; <em>not</em> <code>x &lt; y</code>" in written
    assert f'see <a href="{script}">the script</a>.</p>\n<b>knob</b>\n<h3>Why</h3>' in written
    assert "<div class=math><math><mi>x</mi></math></div>" in written
    assert "<pre class=code><code>print(f&quot;{1 &lt; 2}&quot;)\n</code></pre>\n<pre class=output>" in written
    assert "<ul><li>one\n</li><li>two</li></ul>" in written


def test_a_text_is_written_as_it_was_read(blocks):
    again = _lesson.markdown(blocks, "{{{}}}".format)
    assert again.replace("<div class=math>", "").replace("</div>", "") + "\n" == TEXT


def test_an_answer_is_plain_text(blocks):
    answer = _lesson.answer(_lesson.filled(blocks, MEASURED))
    assert answer.startswith("A & B\n\nIs a < b?\n\nIt is 1.89, 200 % and nan; not x < y, see")


def test_a_number_that_was_not_measured_is_refused(blocks):
    with pytest.raises(KeyError, match="edge"):
        _lesson.filled(blocks, {})


def row(published, samples):
    return common.plain(common.judge("ohm", "b", published, samples))


@pytest.mark.parametrize(
    ("published", "samples", "kind", "place", "said"),
    [
        (0.5, np.linspace(0, 1, 1001), "dot", "50", "above 50 % of the replicates, whose middle 99 % lie from 0.005"),
        (2.0, np.linspace(0, 1, 1001), "dot outside", "100", "2 was published, above 100 % of the replicates"),
        ("nan", np.where(np.arange(100) < 34, np.nan, 1.0), "dot", "34", "nan was published, as 34 % of the"),
        ("nan", np.ones(100), "dot outside", "0", "as 0 % of the replicates"),
        (2.0, np.full(100, np.nan), "dot outside", "100", "and no replicate ends in a number"),
    ],
)
def test_a_published_number_has_its_place(published, samples, kind, place, said):
    shown = parts.verdict({"published": [row(published, samples)]}, "#{}")
    (dot,) = re.findall('href="#ohm" class="([^"]*)" style="left:([^%]*)%" title="([^"]*)" aria-label="([^"]*)"', shown)
    assert dot[:2] == (kind, place)
    assert said in dot[2]
    assert dot[3] == dot[2]


def test_a_knob_is_inputs_and_data():
    sliders = [turned.Slider("rate", "a < b", 5, 2), turned.Choice("loss", "loss", {"x": "X & Y", "z": "Z"})]
    knob = turned.Knob(sliders, {"words": "<!--<script></script>", "rates": np.array([1.0, np.inf])}, charts=2)
    written = turned.html("ohm", json.loads(json.dumps(common.plain(knob.named()))), "<img>")
    assert "a &lt; b " in written
    assert '<input type=range name="ohm-rate" min=0 max=4 value=2>' in written
    assert written.count("<input type=radio") == 2
    assert '<input type=radio name="ohm-loss" value="x" checked>X &amp; Y' in written
    assert written.count("<div class=chart></div>") == 2
    (data,) = re.findall('<script type="application/json">(.*?)</script>', written)
    assert "<" not in data
    assert json.loads(data) == {"words": "<!--<script></script>", "rates": [1.0, "inf"]}


def test_the_page_says_what_is_outside_and_needs_no_network(report, tmp_path):
    shutil.copytree(report, tmp_path, dirs_exist_ok=True)
    results = json.loads((report / "results.json").read_bytes())
    num = len(results["published"])
    results["published"][0]["inside"] = False
    common.save_json(tmp_path / "results.json", results)
    _page.write(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"<strong>{num - 1} of {num}</strong> published numbers" in page
    assert page.count('class="dot outside"') == 2  # at the top and in its exercise
    assert not re.search("https?:", page)
