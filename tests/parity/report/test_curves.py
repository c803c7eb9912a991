"""The curves of trainings: what is drawn where, under which name, and what is written."""

import io
import math
import subprocess
import sys

import matplotlib.colors
import pytest
from PIL import Image

from jax_impl.errors import InputError
from parity.report.curves import Run, draw, figure


def rows(epochs, key="test_accuracy"):
    found = [
        {
            "epoch": epoch,
            "step": 100 * epoch,
            "loss": 2.0 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            key: 0.9 - 0.5 / epoch,
            "lr": 0.1,
            "seconds": 3.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    return [*found, {"epoch": epochs, "test_accuracy": 0.75}]


OLD = [{"epoch": e, "loss": 1.0 / e, "seconds": 1.0} for e in range(1, 6)]
OLD += [{"epoch": 5, "test_accuracy": 0.7284}]
STOPPED = [*rows(2)[:2], {"epoch": 3, "step": 17, "loss": None}]


def run(rows, name="runs/one", model="simple_cnn", framework="jax"):
    return Run(name, rows, model, framework)


def lines(axes, dashes=None, marker=None):
    """The points of every line that is drawn with these dashes or this marker."""
    found = []
    for line in axes.lines:
        points = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        if (
            points
            and dashes in (None, line.get_linestyle())
            and marker in (None, line.get_marker())
        ):
            found.append(points)
    return found


def labels(drawn):
    return [text.get_text() for text in drawn.legends[0].get_texts()]


def title(drawn):
    return drawn.get_suptitle()


def test_losses_left_and_accuracies_right():
    drawn = figure([run(rows(3))])
    left, right = drawn.axes
    assert lines(left) == [[(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3))]]
    assert lines(right, "-") == [[(1, pytest.approx(40)), (2, pytest.approx(65)), (3, 75.0)]]
    assert lines(right, "--")[0][0] == (1, 50.0)
    assert left.get_xlabel() == right.get_xlabel() == "epoch"
    assert labels(drawn) == ["runs/one", "test accuracy", "training accuracy"]
    assert title(drawn) == "simple_cnn in JAX"


def test_validation_is_a_line_and_the_test_a_mark():
    drawn = figure([run(rows(3, "validation_accuracy"))])
    assert lines(drawn.axes[1], "-")[0][0] == (1, pytest.approx(40))
    assert lines(drawn.axes[1], marker="D") == [[(3, 75.0)]]
    assert {"validation accuracy", "final test accuracy"} <= {*labels(drawn)}
    assert "test accuracy" not in labels(drawn)


def test_an_older_run_has_one_point_of_accuracy():
    drawn = figure([run(OLD)])
    assert len(lines(drawn.axes[0])[0]) == 5
    assert lines(drawn.axes[1]) == [[(5, pytest.approx(72.84))]]
    assert labels(drawn) == ["runs/one", "test accuracy"]


def test_a_loss_that_is_no_number_is_a_gap_and_a_cross():
    drawn = figure([run(STOPPED)])
    ((_, _, last),) = lines(drawn.axes[0], "-")
    assert last[0] == 3 and math.isnan(last[1])
    assert lines(drawn.axes[0], marker="x") == [[(3, 1.0)]]
    assert "loss infinite or NaN" in labels(drawn)
    assert "loss infinite or NaN" not in labels(figure([run(rows(3))]))


def test_every_run_has_one_hue_of_its_own():
    for count in (3, 30):
        runs = [run(rows(4), f"runs/{i}") for i in range(count)]
        drawn = figure(runs)
        hues = [matplotlib.colors.to_hex(line.get_color()) for line in drawn.axes[0].lines[::2]]
        right = [matplotlib.colors.to_hex(line.get_color()) for line in drawn.axes[1].lines]
        assert len({*hues}) == count
        assert right == [hue for hue in hues for _ in range(2)]
        legend = [matplotlib.colors.to_hex(h.get_color()) for h in drawn.legends[0].get_lines()]
        assert legend[:count] == hues


def test_the_title_says_what_is_shared_and_the_legend_the_rest():
    one, other = run(rows(2)), run(rows(2), "runs/two", framework="torch")
    third = run(rows(2), "runs/three", "resnet18")
    assert title(figure([one, other])) == "simple_cnn"
    assert labels(figure([one, other]))[:2] == ["runs/one: JAX", "runs/two: PyTorch"]
    assert title(figure([one, third])) == "2 trainings in JAX"
    assert labels(figure([one, third]))[1] == "runs/three: resnet18"
    assert title(figure([one, other, third])) == "3 trainings"
    assert labels(figure([one, other, third]))[1] == "runs/two: simple_cnn in PyTorch"


def test_losses_far_apart_get_a_logarithmic_axis():
    far = [{"epoch": e, "loss": 10.0**e} for e in range(1, 9)]
    assert figure([run(far)]).axes[0].get_yscale() == "log"
    assert figure([run(rows(9))]).axes[0].get_yscale() == "linear"
    assert figure([run([*far, {"epoch": 9, "loss": 0.0}])]).axes[0].get_yscale() == "linear"


def test_both_panels_have_the_same_epochs_and_whole_ones():
    for found in (figure([run(rows(1))]), figure([run(OLD), run(rows(2))])):
        left, right = found.axes
        assert left.get_xlim() == right.get_xlim()
        assert all(tick == round(tick) for tick in left.get_xticks())


NAMES = {
    "long": "runs/" + "x" * 4000,
    "no such letter": "é世\u202e\x1b[31m\n\t",
    "formula": "$\\frac$ $",
    "underscore": "_one",
    "surrogate": "\udcff",
}
RUNS = {
    "one epoch": [run(rows(1))],
    "200 epochs": [run(rows(200))],
    "no epoch": [run([])],
    "stopped": [run(STOPPED)],
    "stopped at once": [run([{"epoch": 1, "step": 1, "loss": None}])],
    "different lengths": [run(rows(1)), run(rows(40)), run(OLD), run([]), run(STOPPED)],
    "gaps": [run([{"epoch": e, "loss": None if e % 2 else 1.0} for e in range(1, 90)])],
    "huge": [run([{"epoch": 10**6, "loss": 1.7e308}, {"epoch": 1, "loss": 1e-320}])],
    "infinite": [run([{"epoch": 1, "loss": math.inf, "test_accuracy": None}, *rows(3)])],
    **{name: [run(rows(2), text, text, text), run(rows(2))] for name, text in NAMES.items()},
}


@pytest.mark.parametrize("name", RUNS)
def test_it_is_drawn_whatever_it_is(name, tmp_path):
    draw(RUNS[name], tmp_path / "curves.png")
    image = Image.open(tmp_path / "curves.png").convert("RGB")
    assert image.width == 1500 and len(image.getcolors(2**24) or ()) > 10
    border = [image.crop(box).getcolors() for box in ((0, 0, 9, 600), (1494, 0, 1500, 600))]
    assert [colours[0][1] for colours in border if colours and len(colours) == 1] == [
        (255,) * 3
    ] * 2


def test_names_are_in_the_legend_shortened_and_printable():
    for name in NAMES:
        label = labels(figure(RUNS[name]))[0]
        assert label.isprintable() and 3 < len(label) < 150
    assert labels(figure([run([], "runs/" + "x" * 400 + "end")]))[0].endswith("xend")


def test_svg_by_suffix_and_the_same_bytes_again(tmp_path):
    for name in ("one.svg", "two.svg"):
        draw([run(rows(3))], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in (tmp_path / "one.svg").read_bytes()
    draw([run(rows(3))], tmp_path / "ONE.PNG")
    assert Image.open(io.BytesIO((tmp_path / "ONE.PNG").read_bytes())).format == "PNG"


@pytest.mark.parametrize("name", ["curves.pdf", "curves", ".png", "png"])
def test_another_suffix_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="is no name of a picture: give a .png or .svg file"):
        draw([run(rows(3))], tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "curves.png").write_bytes(b"before")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("parity.shell.files.os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        draw([run(rows(3))], tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes() == b"before"


def test_no_framework_is_needed():
    code = "import sys, parity.report.curves; print({'jax', 'flax', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
