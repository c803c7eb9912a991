"""README and docs: their measured figures are those of the files under benchmarks/."""

import re
from pathlib import Path

import pytest

from benchmarks import figures, speed_figures
from jax_impl.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def by_name(page: Path) -> str:
    """What a page is called."""
    return page.stem


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.stem)
def test_a_page_holds_what_was_measured(page):
    text = page.read_text()
    assert figures.filled(text) == text, "run python benchmarks/figures.py"


def test_every_section_is_on_a_page():
    text = "".join(page.read_text() for page in figures.PAGES)
    named = [name for _, name, *_ in figures.REGION.findall(text)]
    assert sorted(named) == sorted(figures.SECTIONS)


def test_a_figure_that_is_changed_by_hand_is_found():
    text = figures.PAGES[0].read_text()
    row = "| simple_cnn | JAX | 2,122,186 |"
    assert row in text
    assert figures.filled(text.replace(row, row.replace("186", "187"))) == text


def test_a_marker_without_figures_is_told():
    with pytest.raises(InputError, match="no figures named nosuch: choose of sample"):
        figures.filled("<!-- figures: nosuch -->\n\n<!-- end -->")


BEGIN, END = "<!-- figures: speed -->\n", "\n<!-- end -->"


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"{BEGIN}a\n{BEGIN}b{END}", "2 markers begin figures, 1 end them"),
        (f"{BEGIN}a\ntext", "1 markers begin figures, 0 end them"),
        (f"text{END}", "0 markers begin figures, 1 end them"),
        (f"{END}\n{BEGIN}", "0 do both"),
        (f"{BEGIN}a{END}\n{BEGIN}b{END}", "speed are there twice"),
    ],
)
def test_text_between_markers_that_do_not_belong_together_is_never_replaced(text, problem):
    with pytest.raises(InputError, match=problem):
        figures.filled(text)


def test_a_result_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_figures, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "a.json").write_text("{")
    with pytest.raises(InputError, match="cannot read .*a.json"):
        speed_figures.load("a")


NUMBER = re.compile(
    r"(?<![\w.^/-])\d[\d,]*(?:\.\d+\b(?!\.\d)|(?:\.\d+)?(?:e-?\d+\b"
    r"|\s?(?:ms|s|min|minutes?|seconds?|hours?|%|images/s|GFLOP/s|[GMK]i?B|times)(?!\w)))"
)
DEFINED = {
    "README": {
        "3.11",  # Python
        "1e-12", "16 times", "4 times", "1e-10", "1e-11", "1e-6", "5 %", "0.999",  # tolerances
        "1e-9",  # below which nothing is diagnosed
        "0.001", "0.01",  # learning rates
        "24 GiB", "80GB", "0.10", "0.12", "0.11", "2.11", "2.14",  # the machines
    },
    "speed": {"16 times"},  # a tolerance
    "models": {"4.2"},  # a section of He et al.'s
    "pairs": {"0.001", "0.1", "0.9"},  # of optimizers
    "seeds": {"2.14", "2.11"},  # PyTorch
    "weights": {"0.5"},  # of the normalisation
}  # fmt: skip
"""What a page's numbers are that were not measured: versions, tolerances, options."""


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=by_name)
def test_no_measured_number_is_written_by_hand(page):
    text = figures.REGION.sub("", page.read_text())
    if page.stem == "models":  # a test of its own compares its table
        text = re.sub(r"^\|.*$", "", text, flags=re.M)
    text = re.sub(r"```.*?```|`[^`]*`|^    .*$|\]\([^)]*\)", "", text, flags=re.S | re.M)
    found = {number.replace("\n", " ") for number in NUMBER.findall(text)}
    assert found <= DEFINED.get(page.stem, set()), "between markers, from a file of benchmarks"
