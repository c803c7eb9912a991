"""report.html: complete, well-formed, by itself, and right about what it counts."""

import itertools
import re
from typing import Any

import pytest
from report_content import FAULT, content
from report_page import Page

from parity.report.page import style, to_html
from parity.report.page.markup import Markup, tag

SECTIONS = (
    "failures", "comparison", "ladder", "depth", "trajectory", "losses", "results", "environment",
    "mutants", "reading",
)  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    return to_html(content())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def passing() -> dict[str, Any]:
    """A content with nothing but passed checks."""
    made = content()
    made["results"] = [
        result | {"modules": [], "steps": []} for result in made["results"] if result["passed"]
    ]
    return made | {"comparison": [], "mutants": None}


def result(made: dict[str, Any], model: str, rung: str, dtype: str = "float64") -> dict[str, Any]:
    key = (model, rung, dtype)
    return next(r for r in made["results"] if (r["model"], r["rung"], r["dtype"]) == key)


def test_the_sections_come_in_order(page):
    assert tuple(section["id"] for section in page.all("section")) == SECTIONS
    assert [link["href"] for link in page.all("a") if "nav" in link["in"]] == [
        f"#{name}" for name in SECTIONS
    ]


def test_links_lead_somewhere_and_ids_are_unique(page, text):
    ids = [element["id"] for element in page.tags if "id" in element]
    assert len(ids) == len(set(ids))
    targets = {element["href"] for element in page.tags if "href" in element}
    targets |= set(re.findall(r"url\((.*?)\)", text))
    assert len(targets) > 50
    assert targets <= {f"#{name}" for name in ids}


def test_nothing_comes_from_elsewhere(page, text):
    assert not re.search(r"https?:|//\w|@import|src=|url\((?!#)|xmlns|xlink", text)
    assert not {"script", "link", "img", "iframe", "object"} & {e["tag"] for e in page.tags}


def test_the_same_content_gives_the_same_bytes(text):
    assert to_html(content()) == text


def test_the_content_is_not_changed():
    made = content()
    to_html(made)
    assert made == content()


@pytest.mark.parametrize(
    "make, word, says",
    [
        (content, "FAILED", "13 of 39 checks are not within"),
        (passing, "PASSED", "All 26 checks are within"),
    ],
)
def test_the_verdict(make, word, says):
    page = Page(to_html(make()))
    (verdict,) = page.all("div", "verdict")
    assert word in verdict["text"] and says in verdict["text"]
    assert word in page.all("title")[0]["text"]
    assert ("fail" in verdict["class"].split()) == (word == "FAILED")


def test_the_environment_is_told(page):
    (facts,) = page.all("dl", "facts")
    for fact in ("parity run", "0123abc", "AMD EPYC", "TF32", "jax 0.10.2", "CIFAR-10"):
        assert fact in facts["text"]


def test_sections_without_data_are_left_out():
    page = Page(to_html(passing()))
    assert [section["id"] for section in page.all("section")] == [
        "ladder", "results", "environment", "reading",
    ]  # fmt: skip
    assert not page.all("svg")


def test_a_failure_says_where_and_why(page):
    cards = page.all("article")
    card = cards[0]["text"]
    assert len(cards) == 1 and "resnet18 · forward · float64" in card
    for part in (FAULT, "3.1e-04", "layer2.0.conv2", "2.2e-15", "epsilon of the batch norm"):
        assert part in card
    assert "measured 0.0023, tolerance 1.0e-12 relative error" in card
    assert card.index("Cause:") < card.index("just before it")


def test_a_cause_is_told_once():
    made = content()
    why = result(made, "resnet18", "forward")["diagnosis"]
    why["text"] = f"first departs: layer2.0.bn2. Cause: {why['cause']}."
    card = Page(to_html(made)).all("article")[0]["text"]
    assert card.count(why["cause"]) == 1 and "first departs: layer2.0.bn2." in card


def test_of_two_causes_both_are_told_first_and_once():
    made = content()
    why = result(made, "resnet18", "forward")["diagnosis"]
    why["text"] = f"first departs: conv2. Cause: {why['cause']}. Also act: gelu by tanh."
    page = Page(to_html(made))
    card, (cause,) = page.all("article")[0]["text"], page.all("p", "cause")
    assert cause["text"] == f"Cause: {why['cause']}. Also act: gelu by tanh"
    assert card.count(why["cause"]) == 1 and card.count("gelu by tanh") == 1


def test_a_letter_that_matplotlib_has_not_is_the_readers_fonts(recwarn):
    made = content()
    for module in result(made, "resnet18", "forward")["modules"]:
        module["name"] = "\u6f22\u5b57\uce35"
    assert "\u6f22\u5b57\uce35" in to_html(made) and not recwarn.list


def test_what_follows_from_a_failure_is_one_line_that_says_so(page):
    lines = [item["text"] for item in page.all("li") if "ul" in item["in"] and "·" in item["text"]]
    assert len(lines) == 12
    told = "resnet18 · loss · float64 follows from forward float64: measured 0.0023, tolerance"
    assert lines[1].startswith(told)
    assert "epsilon" not in "".join(lines)


def test_an_independent_failure_has_a_card_of_its_own():
    made = content()
    result(made, "resnet18", "optimizer")["diagnosis"] = None
    titles = [card["text"] for card in Page(to_html(made)).all("article")]
    assert ["forward" in titles[0], "optimizer" in titles[1], len(titles)] == [True, True, 2]


def test_what_is_folded_can_be_unfolded(page):
    folded = [e for e in page.all("details", "folded")]
    assert [e["text"].split()[0] for e in folded] == ["Environment", "Planted", "How"]
    assert all("section" in e["in"] for e in folded)


def test_a_diagnosis_may_know_little():
    made = content()
    made["results"] = [result(made, "resnet18", "forward")]
    made["results"][0]["diagnosis"] |= {
        "before": None, "before_error": None, "error": None, "cause": None,
    }  # fmt: skip
    card = Page(to_html(made)).all("article")[0]["text"]
    assert "it comes first" in card and "relative error not finite" in card
    assert "Cause:" not in card


def test_every_result_is_in_the_table(page):
    rows = {row["id"]: row["text"] for row in page.all("tr") if "id" in row}
    for number, found in enumerate(content()["results"]):
        row = rows.pop(f"result-{number}")
        assert row.startswith(f"{found['model']}{'✓ yes' if found['passed'] else '✗ NO'}")
        assert f"{found['rung']}{found['dtype']}" in row
        assert found["unit"] in row and found["detail"] in row
    assert not rows


def test_the_ladder_shows_each_precision(page):
    table = page.all("table", "ladder")[0]
    assert table["text"].startswith("rungsimple_cnnresnet18data✓64✓64init✓64✓32✓64✓32forward")
    cells = [e["text"] for e in page.all("div", "split")]
    small, deep = cells[::2], cells[1::2]
    assert small[:3] == ["✓64", "✓64✓32", "✓64✓32✓b16"]  # data is of all models
    assert deep[:3] == ["✓64", "✓64✓32", "✗64✗32–b16"]
    assert deep[10] == "–32"  # resnet18 has no accuracy
    pieces = [e for e in page.all("a") if "#result" in e["href"] and "table" in e["in"]]
    assert len(pieces) == 39 + 1 - 1  # data is shown twice, both accuracies as one
    assert all("measured" in e["title"] and "tolerance" in e["title"] for e in pieces)
    for piece in pieces:
        assert ("FAILED" in piece["title"]) == (piece["class"] == "fail") == ("✗" in piece["text"])


def test_the_ladder_fails_with_the_worse_of_two_results():
    made = passing()
    accuracies = [r for r in made["results"] if r["rung"] == "accuracy"]
    accuracies[1]["passed"] = False
    page = Page(to_html(made))
    assert page.all("div", "split")[20]["text"] == "✗32"
    link = next(e for e in page.all("a") if "points of test accuracy" in e.get("title", ""))
    assert link["href"] == f"#result-{made['results'].index(accuracies[1])}"
    assert link["title"].count("\n") == 1


def test_unknown_rungs_and_precisions_are_shown():
    made = passing()
    made["results"].append(made["results"][1] | {"rung": "novel", "dtype": "float8"})
    table = Page(to_html(made)).all("table", "ladder")[0]["text"]
    assert table.endswith("novel✓float8–float8")


def test_rungs_that_nobody_climbed_are_shown_as_not_run():
    made = passing()
    made["results"] = [result(made, "all", "data")]
    cells = [e["text"] for e in Page(to_html(made)).all("div", "split")]
    assert cells == ["✓64"] + ["–not run"] * 10


def test_texts_are_escaped():
    evil = "<b>&\"'$x_1$"
    made = content()
    result(made, "simple_cnn", "forward")["modules"][0]["name"] = evil
    for place in (made["environment"], made["results"][3], made["comparison"][0]):
        place.update({key: evil for key, value in place.items() if isinstance(value, str)})
    for place in (*made["mutants"][:1], result(made, "resnet18", "forward")["diagnosis"]):
        place.update({key: evil for key, value in place.items() if isinstance(value, str)})
    made["data"]["reason"] = evil
    found = Page(to_html(made))
    assert "<b>&amp;" not in to_html(made)
    for name in ("failures", "ladder", "depth", "mutants", "results", "comparison"):
        assert evil in found.section(name), name
    assert evil in found.all("dl", "facts")[0]["text"]
    assert evil in [e["text"] for e in found.all("text")]  # matplotlib took no dollar for maths


def test_markup_escapes_what_is_not_markup():
    assert tag("p", "<&>", Markup("<br>"), title='"', class_="x", id=None) == (
        '<p title="&quot;" class="x">&lt;&amp;&gt;<br></p>'
    )


def test_one_plot_for_each_set_of_points(page):
    titles = [caption["text"] for caption in page.all("figcaption")]
    assert titles == [
        "simple_cnn, test accuracy, 5 epochs",
        "resnet18, test accuracy, 1,860 of 15,625 steps",
        "simple_cnn, loss, 5 epochs",
        "resnet18, loss, 1,860 of 15,625 steps",
        "simple_cnn, forward",  # float64 and float32 have the same modules
        f"resnet18, forward, goes wrong at {FAULT}",
        "simple_cnn, trajectory",
        "resnet18, trajectory",
        "simple_cnn, trajectory, by step",
        "resnet18, trajectory, by step",
    ]
    assert len(page.all("svg")) == len(titles)
    modules = result(content(), "resnet18", "forward")["modules"]
    texts = [e["text"] for e in page.all("text")]
    assert all(module["name"] in texts for module in modules)
    assert texts.count("float64 tolerance 1.0e-12") == 4
    assert {"training step", "epoch", "part of the training"} <= set(texts)


def test_plots_have_the_themes_colours(text):
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"(fill|stroke)[:=]\s*\"?#", drawings)
    names = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert {"blue", "orange", "ink", "fail"} <= names
    assert names <= style.LIGHT.keys() == style.DARK.keys()


def test_the_points_are_there_as_numbers(page):
    tables = [e["text"] for e in page.all("details") if "points as numbers" in e["text"]]
    assert "61 points" in tables[6] and "44 points" in tables[5]
    modules = result(content(), "resnet18", "forward")["modules"]
    difference = next(m["difference"] for m in modules if m["name"] == FAULT)
    assert f"{FAULT}{difference:.1e}" in tables[5] and "not finite" in tables[5]
    assert "50.3390.328" in tables[2] and "572.872.7" not in tables[0]
    assert "JAX against itself" in tables[6] and "PyTorch against itself" in tables[6]


def test_curves_that_lie_on_each_other_have_a_panel_of_their_difference(page):
    titles = [e["text"] for e in page.all("text")]
    assert titles.count("JAX - PyTorch") == 6  # accuracy and loss of both, and both by step


def bands(made: dict[str, Any]) -> list[str]:
    """The colours of the filled areas of each plot."""
    drawings = re.findall(r"<svg.*?</svg>", to_html(made), re.DOTALL)
    fills = [re.findall(r"fill: var\(--(\w+)\); fill-opacity: 0.14", d) for d in drawings]
    return ["".join(found) for found in fills]


def test_float32_has_the_band_of_each_framework_against_itself():
    made = content()
    assert [found for found in bands(made) if found] == ["blueorange", "blue"]
    for step in result(made, "simple_cnn", "trajectory")["steps"]:
        step |= {"our_own": None, "their_own": None}  # float32 was not asked for
    assert [found for found in bands(made) if found] == ["blue"]


def ticks(made: dict[str, Any]) -> list[set[str]]:
    """The texts of each plot."""
    drawings = re.findall(r"<svg.*?</svg>", to_html(made), re.DOTALL)
    return [set(re.findall(r"<text[^>]*>([^<]*)<", drawing)) for drawing in drawings]


def test_zero_and_infinity_have_a_line_of_their_own():
    made = content()
    made |= {"results": [result(made, "simple_cnn", "forward")], "comparison": []}
    assert {"0", "∞ NaN", "1e-12"} <= ticks(made)[0]
    for module in made["results"][0]["modules"]:
        module |= {"difference": 1e-15, "their_noise": 1e-7}
    assert "1e-12" in ticks(made)[0] and not {"0", "∞ NaN"} & ticks(made)[0]


@pytest.mark.parametrize("value", [None, 0.0, 1e-320, 1e308])
def test_extreme_numbers_are_drawn(value):
    """All of one kind, then among others; warnings are errors."""
    made = content()
    found = result(made, "simple_cnn", "trajectory")["steps"]
    for step, key in itertools.product(found, ("float64", "float32", "our_loss", "their_loss")):
        step[key] = value
    result(made, "simple_cnn", "forward")["modules"][4]["difference"] = value
    made["comparison"][0] |= {"losses": [1.0, value], "accuracy": value, "epoch_seconds": value}
    result(made, "simple_cnn", "loss").update(measured=value, tolerance=value)
    Page(to_html(made))


def test_a_deep_model_has_a_plot_of_bounded_width():
    made = content()
    modules = result(made, "resnet18", "forward")["modules"]
    modules[:] = [modules[i % 40] | {"name": f"module{i}"} for i in range(500)]
    widths = [float(box.split()[2]) for box in re.findall(r'viewBox="([^"]*)"', to_html(made))]
    assert max(widths) < 1000


def test_the_tally_of_planted_bugs(page):
    tally = [item["text"] for item in page.all("li") if "·" not in item["text"]]
    assert tally == [
        "49 of 50caught",
        "48 of 50at the expected rung",
        "38 of 40module named right",  # of the optimizer's ten no module is expected
        "49 of 50cause named right",
    ]
    assert "lanted" not in page.all("div", "verdict")[0]["text"]  # they are no part of this run
    groups = [row["text"] for row in page.all("tr", "group")]
    assert groups[0] == "layers caught 9 of 10" and len(groups) == 5


def test_each_planted_bug_has_its_row(page):
    rows = [row["text"] for row in page.all("tr")]
    names = {mutant["name"]: mutant for mutant in content()["mutants"]}
    rows = {row: name for row in rows for name in names if row.startswith(name)}
    assert sorted(rows.values()) == sorted(names)
    found = {name: row.removeprefix(name) for row, name in rows.items()}
    missed, elsewhere, misled, plain = (
        found[content()["mutants"][i]["name"]] for i in (7, 13, 25, 40)
    )
    assert missed.startswith("✗ missedforward✗ none✗ noneexpected layer2.0.bn1✗ none")
    assert elsewhere == "✓ caughtforward✗ loss✓ conv1✓ padding"
    assert "✗ layer3.1.bn2expected layer3.1.conv2✓ stop_gradient" in misled
    assert plain == "✓ caughtoptimizer✓ optimizer–✓ bias correction"


def test_the_comparison_has_units(page):
    shown = page.section("comparison")
    for part in ("2,122,186", "15.7", "29.6", "72.84 %", "1,860 of 15,625 steps", "0.339"):
        assert part in shown
    assert "MFLOPs" in shown and "seconds an epoch" in shown


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK])
def test_contrast_is_that_of_wcag_aa(palette):
    """4.5 for text, 3 for lines of a plot."""
    texts = list(itertools.product(("ink", "muted", "link"), ("page", "surface")))
    texts += [("pass", "pass-fill"), ("fail", "fail-fill")]
    for text, ground in texts:
        assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for line in ("blue", "orange", "fail", "ink", "muted"):
        assert contrast(palette[line], palette["page"]) >= 3, line
