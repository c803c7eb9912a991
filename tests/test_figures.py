"""README and docs: their measured figures are those of the files under benchmarks/."""

import json
import re
from pathlib import Path

import pytest
from study_support import made_up, told

from benchmarks import figures, speed_figures, study_figures
from benchmarks.training_figures import metrics
from jax_impl.errors import InputError
from parity.report.evaluation import wilson
from parity.shell.recipes import RECIPES
from parity.study.studies import STUDIES

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
    text = next(page for page in figures.PAGES if page.stem == "gpu").read_text()
    row = "`benchmarks/gpu.sh checks` | 28 of 28 checks"
    assert row in text
    assert figures.filled(text.replace(row, row.replace("28 of", "27 of"))) == text


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


def test_what_a_study_came_to_says_what_is_missing(tmp_path, monkeypatch):
    for module in (speed_figures, study_figures):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    folder = tmp_path / "benchmarks" / "studies" / "choose-cnn"
    monkeypatch.setattr(study_figures, "FOLDER", folder.parent)
    assert "Not trained yet" in study_figures.choose_cnn()
    folder.mkdir(parents=True)
    whole = told(STUDIES["choose-cnn"], made_up(STUDIES["choose-cnn"], lambda training: 0.5))
    results = [one for one in whole["trainings"] if one["seed"] == 0]
    for some, missing in ((results[1:], True), (results, False)):
        (folder / "study.json").write_text(json.dumps(whole | {"trainings": some}))
        text = study_figures.choose_cnn()
        assert f"{len(some)} of {whole['planned']} trainings are over" in text
        assert "Chosen by its validation accuracy" in text
        assert ("- Of 25 kinds of training 1 are missing from what follows." in text) is missing


NUMBER = re.compile(
    r"(?<![\w.^/-])\d[\d,]*(?:\.\d+\b(?!\.\d)|(?:\.\d+)?(?:e-?\d+\b"
    r"|\s?(?:ms|s|min|minutes?|seconds?|hours?|%|images/s|GFLOP/s|[GMK]i?B|times)(?!\w)))"
)
DEFINED = {
    "README": {"3.11", "0.001", "0.01"},  # Python, learning rates
    "tolerances": {
        "1e-12", "1e-10", "1e-11", "1e-6", "1e-9", "5 %", "10 %", "0.999",
        "16 times", "4 times", "8,192 times", "10 minutes",
    },
    "results": {"24 GiB", "0.10", "0.12", "2.14"},  # the machine
    "extending": {"1e-3"},  # Optax's decay
    "gpu": {"80GB", "0.11", "2.11"},
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


def test_the_accuracy_that_a_recipe_tells_was_measured():
    seeds = [run["accuracy"] for run in speed_figures.load("accuracy")["runs"]]
    mean, (low, high) = sum(seeds) / len(seeds), (min(seeds), max(seeds))
    told = RECIPES["notebook_cnn"].accuracy
    assert f"here {100 * low:.1f} to {100 * high:.1f} % by three seeds" in told
    assert f", {100 * mean:.1f} % in the mean" in told

    jax, torch = (metrics(f"gpu/accuracy/{name}")[-1]["test_accuracy"] for name in ("jax", "torch"))
    told = RECIPES["notebook_resnet"].accuracy
    assert f"here {100 * jax:.1f} % in JAX and {100 * torch:.1f} % in PyTorch" in told
    assert told.endswith(f" {interval(min(jax, torch))[0]} to {interval(max(jax, torch))[1]} %")

    short = metrics("training/resnet20_short")[-1]["test_accuracy"]
    mirrored = speed_figures.load("training/resnet20_short/mirrored")["accuracy"]
    told = RECIPES["resnet20_short"].accuracy
    assert f"here {100 * short:.2f} % in one run: {' to '.join(interval(short))} %" in told
    assert f"{100 * mirrored:.2f} % by it with --mirror" in told


def interval(accuracy: float) -> tuple[str, str]:
    """In percent, of the 10,000 test images."""
    low, high = wilson(round(accuracy * 10_000), 10_000)
    return f"{100 * low:.1f}", f"{100 * high:.1f}"
