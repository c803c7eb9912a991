"""What a study says of its trainings, in sentences, tables and pictures."""

import dataclasses
import itertools
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_support import TINY, made_up, told

from parity.study import plots, report, tables
from parity.study.groups import grouped, paired
from parity.study.judge import answers
from parity.study.studies import NOTEBOOKS, STUDIES, cnn
from parity.study.study_json import read_study


def grid_accuracy(training):
    """Best with three convolutions and 5x5; the seeds differ a little."""
    point = dict(training.point)
    value = 0.6 + 0.05 * (point["convolutions"] == "3") + 0.03 * (point["filter"] == "5x5")
    return value + 0.002 * training.seed


def pair_accuracy(training):
    """JAX is better by 0.1 point with the small CNN, and by 3 points with the rest."""
    better = 0.001 if training.model == "simple_cnn" else 0.03
    spread = 0.002 * ((7 * training.seed) % 5 - 2)
    wobble = 0.0005 * ((3 * training.seed) % 4 - 1.5) * (training.framework == "jax")
    return 0.7 + spread + wobble + better * (training.framework == "jax")


def some_accuracy(training):
    return 0.5 + 0.01 * len(training.model) + 0.003 * training.seed


RESULTS = {
    "cnn-vs-resnet": some_accuracy,
    "notebook": pair_accuracy,
    "choose-cnn": grid_accuracy,
    "residual": lambda training: 0.6 if training.model.startswith("plain") else 0.7,
}
PICTURES = {
    "cnn-vs-resnet": {"by-epoch", "by-seconds", "by-size"},
    "notebook": {"pairs", "by-epoch"},
    "choose-cnn": {"heat-maps", "one-at-a-time", "by-size"},
    "residual": {"by-epoch", "gradients"},
}
GRADIENTS = [
    {"epoch": 0, "norms": {"conv1": 1.0, "fc": 0.5}},
    {"epoch": 5, "norms": {"conv1": 1e-3, "fc": 0.2}},
]


def results_of(name):
    others = {"gradients": GRADIENTS} if name == "residual" else {}
    return made_up(STUDIES[name], RESULTS[name], **others)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_written_whole(name, tmp_path):
    study, results = STUDIES[name], results_of(name)
    written = report.write_all(tmp_path, study, told(study, results))
    assert {f"{picture}.png" for picture in PICTURES[name]} <= {*written}
    for picture in PICTURES[name]:
        assert (tmp_path / f"{picture}.svg").read_text().startswith("<?xml")
        assert (tmp_path / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert read_study(tmp_path / report.JSON)["trainings"] == json.loads(json.dumps(results))
    markdown = (tmp_path / report.MARKDOWN).read_text()
    for case in study.cases:
        assert f"| {case.group} |" in markdown
    assert f"{len(results)} of {len(results) + 1} trainings are over" in markdown
    html = (tmp_path / report.HTML).read_text()
    assert html.startswith("<!DOCTYPE html>") and "it ended &amp; said nothing" in html
    assert html.count("<figure") == len(PICTURES[name]) and "<script" not in html


@pytest.mark.parametrize("name", STUDIES)
def test_pictures_of_the_same_are_the_same_bytes(name):
    study, results = STUDIES[name], results_of(name)
    assert plots.draw(study, results) == plots.draw(study, results)
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", STUDIES)
def test_one_training_or_none_is_written_too(name, tmp_path):
    study = STUDIES[name]
    for results in ([], results_of(name)[:1]):
        report.write_all(tmp_path, study, told(study, results))
        assert (tmp_path / report.HTML).exists()


def test_the_best_of_the_grid_is_chosen_by_validation_and_told_by_test():
    study = STUDIES["choose-cnn"]
    results = results_of("choose-cnn")
    for result in results:
        result["test_accuracy"] = 0.9 - result["held_out_accuracy"]  # would choose another one
    first, *others = answers(study, results)
    assert "68.20 %" in first and first.count("3 conv; 5x5") == 1 and "21.80 %" in first
    assert len(others) == 4 and others[0].startswith("By convolutions, with the notebook's choice")
    assert "3 65.20 %" in others[0]


def test_a_training_that_was_given_up_is_not_judged():
    study = STUDIES["choose-cnn"]
    results = results_of("choose-cnn")
    for result in results:
        if "3 conv; 5x5" in result["group"]:
            result["given_up"] = True
    assert "3 conv; 5x5" not in answers(study, results)[0]


def test_frameworks_are_the_same_where_the_interval_is_within_the_margin():
    small, slow, fast, *notebook = answers(STUDIES["notebook"], results_of("notebook"))
    assert "are the same within 0.5 points: JAX is +0.10 points off" in small and "n = 20" in small
    assert "are not shown to be the same within 1.0 points: JAX is +3.00" in slow
    assert slow.startswith("resnet18, Adam 0.001") and fast.startswith("resnet18, Adam 0.01")
    assert len(notebook) == 2 and "The notebook's own 74.22 %" in notebook[0]
    assert re.search(r"0 of 20 at or above it, p = \d", notebook[0])


def test_pairs_are_of_one_seed():
    results = results_of("notebook")
    del results[1]  # PyTorch's seed 0 of the small CNN
    pairs = paired(results, "simple_cnn, Adam 0.001")
    assert [seed for seed, _, _ in pairs] == [*range(1, 20)]
    assert all(a["framework"] == "jax" and b["framework"] == "torch" for _, a, b in pairs)
    assert all(a["seed"] == b["seed"] for _, a, b in pairs)


def test_the_shortcuts_studies_sentences_follow_the_losses():
    sentences = answers(STUDIES["residual"], results_of("residual"))
    assert "of plain20 at the end is above that of resnet20" in sentences[0]
    assert sum(sentence.startswith("Deeper:") for sentence in sentences) == 4
    assert "at or below that of plain20" in next(s for s in sentences if "plain56 is" in s)


def test_means_are_over_the_seeds_of_one_framework():
    results = made_up(TINY, some_accuracy) + made_up(
        dataclasses.replace(TINY, frameworks=("torch",)), lambda training: 0.1
    )
    groups = grouped(results, [case.group for case in TINY.cases])
    assert [(g.name, g.framework) for g in groups] == [
        (f"{n} channels", f) for n in (2, 3) for f in ("jax", "torch")
    ]
    test = groups[1].test()
    assert test is not None and test.mean == 0.1
    assert "2 channels in PyTorch" in " ".join(answers(TINY, results))


def test_a_training_without_a_number_has_none_in_the_table():
    results = made_up(TINY, some_accuracy)
    for result in results:
        result |= {"stopped": True, "test_accuracy": None, "held_out_accuracy": None,
                   "seconds": None, "rows": [{"epoch": 1, "loss": None}]}  # fmt: skip
    groups = grouped(results, [])
    row = dict(zip(tables.COLUMNS, tables.rows(groups)[0], strict=True))
    assert row["n"] == "1 (1 stopped)"
    assert [row[name] for name in ("loss", "training, %", "held out, %", "test, %")] == ["-"] * 4
    assert plots.draw(TINY, results).keys() == {"by-epoch"} and answers(TINY, results) == []


def test_the_notebooks_point_is_on_every_axis():
    case = cnn(NOTEBOOKS)
    assert case is not None and dict(case.point) == NOTEBOOKS


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (200, "200"), (20_000, "20 k"), (2_500_000, "2.5 M")]
)
def test_a_tick_is_short(number, text):
    assert plots.in_short(number) == text


def test_no_name_beside_a_point_lies_on_another():
    figure = Figure((5, 4))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    points = [(x, y, f"net {i}, SGD") for i, (x, y) in enumerate(rng.random((11, 2)).round(1))]
    plots.name_points(axes, points)
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent().shrunk(0.98, 0.9) for text in axes.texts]
    assert len(boxes) == 11
    assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
