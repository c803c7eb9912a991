"""Saved runs: read again, drawn in one picture, and compared."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from speed_support import TASK, report_of, timing

from jax_impl.errors import InputError
from parity import program
from parity.report.picture import FRAMEWORKS
from parity.speed import changes, faster, report, saved, terminal
from parity.speed.notebook import EpochResult, Training
from parity.speed.results import SpeedReport, TaskResult
from parity.speed.statistics import Estimate, quotient
from parity.speed.workloads import Task

BF16 = Task("resnet18", 8, "train", "bf16")


def result(ours: list[float], theirs: list[float], task: Task = TASK) -> TaskResult:
    timings = (timing("JAX", "scan", ours, task), timing("PyTorch", "eager", theirs, task))
    return TaskResult(task, timings)


def of(*results: TaskResult, **facts) -> SpeedReport:
    made = report_of(*results)
    return dataclasses.replace(made, environment=made.environment | facts)


def write(made: SpeedReport, folder: Path) -> Path:
    report.write_samples(made, folder)
    return folder / "speed.json"


def parity(*arguments: str, capfd) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        program.run(arguments)
    output, errors = capfd.readouterr()
    return int(stop.value.code or 0), output, errors


def test_a_run_is_read_as_it_was(tmp_path):
    epochs = (EpochResult(1, 10.0, 1.0, 0.5),)
    trained = Training("scan", "JAX", 0, 1.0, 50.0, epochs, other_cores=0.0)
    made = dataclasses.replace(of(result([4.0, 5.0], [3.0, 3.0])), notebook=(trained,))
    found = saved.read(write(made, tmp_path))
    assert found == saved.read(tmp_path)
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in made.options.items()}
    assert found == dataclasses.replace(made, options=lists)


def test_a_run_of_an_earlier_version_is_read():
    root = Path(__file__).resolve().parents[3] / "benchmarks" / "speed"
    for folder in (root, root / "xeon", root / "notebook", root / "inference"):
        told = json.loads((folder / "speed.json").read_text())
        for task, read in zip(told["tasks"], saved.read(folder).results, strict=True):
            ratio = read.ratio()
            assert ratio is not None and ratio._asdict() == task["jax_to_best"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda told: told.pop("tasks"), "KeyError: 'tasks'"),
        (lambda told: told.update(tasks=3), "TypeError"),
        (lambda told: told["tasks"][0]["timings"][0].update(framework="Torch"), "'Torch'"),
        (lambda told: told["tasks"][0]["timings"][0]["blocks"][0].update(seconds=0), "in 0 s"),
        (lambda told: told["tasks"][0].update(batch_size=-4), "batches of -4"),
        (lambda told: told["environment"].update(packages=None), "TypeError"),
        (lambda told: told["environment"].update(cpu=7), "environment's cpu is 7"),
    ],
)
def test_what_is_no_report_is_told_in_a_line(change, message, tmp_path):
    path = write(of(result([4.0], [3.0])), tmp_path)
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="no report of `parity speed`") as error:
        saved.read(path)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\udcff"])
def test_what_is_no_json_is_told_in_a_line(text, tmp_path):
    path = tmp_path / "speed.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match="speed.json"):
        saved.read(path)


def test_runs_of_one_machine_are_put_together():
    first = of(result([4.0], [2.0]), commit="a")
    second = of(result([9.0], [3.0], BF16), commit="b", date="2026-11-28")
    other = of(result([1.0], [2.0]), cpu="another")
    found = faster.machines([first, second, other])
    assert [list(each.ratios) for each in found] == [[TASK, BF16], [TASK]]
    assert [each.ratios[TASK].median for each in found] == [2.0, 0.5]
    assert found[0].stamp == "c, 2 cores; Python 3, jax 1; commit a; commit b, 2026-11-28"


def test_the_picture_has_a_dot_with_its_interval_at_every_ratio():
    made = of(result([4.0, 4.4, 4.2], [2.0, 2.0, 2.0]), result([1.0, 2.0], [2.0, 1.0], BF16))
    figure = faster.figure(faster.machines([made]))
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [np.asarray(line.get_xdata())[0] for line in dots] == pytest.approx([2.1, 1.25])
    assert [line.get_color() for line in dots] == [FRAMEWORKS["JAX"], faster.LEVEL]
    dashes = [line.get_linestyle() for line in axes.lines if np.size(line.get_xdata()) == 2]
    assert dashes == ["-", ":", "-"]  # bfloat16 has its own; the last is the line at 1
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["train simple_cnn, batch 4", "train resnet18, batch 8, bfloat16"]
    assert "c, 2 cores; Python 3, jax 1; commit a" in figure.get_supxlabel()


def test_a_slower_framework_has_its_hue_and_any_ratio_a_place():
    for ratio in (1e-3, 0.5, 1.0, 900.0):
        made = of(result([ratio] * 3, [1.0] * 3))
        (axes,) = faster.figure(faster.machines([made])).axes
        low, high = axes.get_xlim()
        assert low < min(ratio, 1) <= max(ratio, 1) < high


def test_every_plot_says_what_it_ran_on():
    made = of(result([4.0], [3.0]), date="2026-11-28")
    for name, draw in report.plots.drawn(made).items():
        text = draw(made).get_supxlabel()
        assert "c, 2 cores; Python 3, jax 1; commit a, 2026-11-28" in text, name


def test_plot_draws_again_and_replaces_nothing(tmp_path, capfd):
    one, two = tmp_path / "one", tmp_path / "two"
    write(of(result([4.0], [2.0])), one)
    write(of(result([1.0], [2.0]), cpu="another"), two)
    picture = tmp_path / "new" / "faster.svg"
    arguments = ("speed", "plot", str(one), str(two / "speed.json"), "--plot", str(picture))
    status, output, _ = parity(*arguments, capfd=capfd)
    assert status == 0 and b"<svg" in picture.read_bytes()
    assert "simple_cnn@4 train: 2.00 (2.00 to 2.00)" in output and "another, 2 cores" in output
    status, _, errors = parity(*arguments, capfd=capfd)
    assert status == 2 and "exists: pass another --plot" in errors


def beside_other_work() -> TaskResult:
    alone = result([4.0], [2.0])
    timings = tuple(
        dataclasses.replace(
            t, blocks=tuple(dataclasses.replace(b, other_cores=1.0, seconds=9.0) for b in t.blocks)
        )
        for t in alone.timings
    )
    return dataclasses.replace(alone, timings=timings)


def test_plot_draws_nothing_of_timings_beside_other_work(tmp_path, capfd):
    write(of(beside_other_work()), tmp_path)
    status, _, errors = parity("speed", "plot", str(tmp_path), capfd=capfd)
    assert status == 2 and "no run has a valid timing of both" in errors


def test_what_is_shown_of_them_all_the_same_says_so(tmp_path, capfd):
    made = of(beside_other_work())
    made = dataclasses.replace(
        made, options=made.options | {"busy": True}, unfinished="2 of 30 rounds of task 1"
    )
    path = str(write(made, tmp_path / "run"))
    picture = str(tmp_path / "faster.svg")
    _, output, _ = parity("speed", "plot", path, "--plot", picture, capfd=capfd)
    assert "not valid: the machine was busy (1.00 cores of other work)" in output
    assert "unfinished: 2 of 30 rounds of task 1" in output
    drawn = faster.figure(faster.machines([made]))
    assert "1.00, not valid: busy" in [text.get_text() for text in drawn.axes[0].texts]
    assert "unfinished: 2 of 30 rounds of task 1" in drawn.get_supxlabel()
    _, output, _ = parity("speed", "compare", path, path, capfd=capfd)
    assert "the first run is unfinished: 2 of 30 rounds of task 1" in output
    assert "the second is not valid: the machine was busy" in output


def test_of_two_timings_of_one_task_the_later_is_shown_and_the_other_named():
    old = of(result([4.0], [2.0]), commit="a", date="2026-11-01")
    new = of(result([3.0], [2.0]), commit="b", date="2026-11-02")
    for reports in ([old, new], [new, old]):
        (found,) = faster.machines(reports)
        assert found.ratios[TASK].median == 1.5
        assert found.left_out == (f"{TASK}: left out is that of commit a, 2026-11-01",)


def test_rounds_that_one_variant_has_not_are_told(tmp_path):
    path = write(of(result([4.0, 5.0], [3.0, 3.0])), tmp_path)
    told = json.loads(path.read_text())
    told["tasks"][0]["timings"][0]["blocks"].pop()
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="timings of 1 to 2 rounds in simple_cnn@4 train"):
        saved.read(path)


def test_a_task_of_no_timings_is_compared():
    made = of(result([4.0], [3.0]))
    empty = dataclasses.replace(made, results=(TaskResult(TASK, ()),))
    assert changes.lines(made, empty)[0] == "the same commit, machine and versions"


def test_a_long_name_is_shortened_in_the_middle_of_a_picture():
    task = Task("simple_cnn:channels=16,32,64,128,256:kernel_size=5", 999_999, "train", "float32")
    (axes,) = faster.figure(faster.machines([of(result([1.0], [2.0], task))])).axes
    (label,) = (label.get_text() for label in axes.get_yticklabels())
    assert len(label) == faster.LABEL and label.endswith("batch 999999")


def test_no_ratio_is_told_as_nothing():
    assert Estimate(0.0012, 0.001, 2.0).told == "0.0012 (0.001 to 2.00)"


def test_compare_tells_what_changed(tmp_path, capfd):
    before = of(result([4.0, 4.1, 4.0], [2.0, 2.2, 1.8]), result([1.0], [1.0], BF16))
    packages = {"jax": "2"}
    after = of(result([8.0, 8.2, 8.1], [2.0, 1.8, 2.2]), packages=packages, commit="b")
    paths = [str(write(made, tmp_path / name)) for made, name in ((before, "a"), (after, "b"))]
    status, output, _ = parity("speed", "compare", *paths, capfd=capfd)
    lines = output.splitlines()
    assert status == 0 and max(map(len, lines)) <= 80
    assert lines[:2] == ["commit: a -> b", "jax: 1 -> 2"]
    (ours,) = (line for line in lines if line.startswith("JAX  "))
    (theirs,) = (line for line in lines if line.startswith("PyTorch"))
    assert ours.split()[1:4] == ["4", "8", "2.02"] and ours.endswith("faster")
    assert theirs.endswith("no change")
    assert "JAX / PyTorch: 2.00 (1.86 to 2.22) -> 4.00 (3.68 to 4.56)" in lines
    assert lines[lines.index(str(BF16)) + 1] == "  timed in the first run alone"


def test_compare_of_a_run_with_itself_finds_nothing():
    made = of(result([4.0, 4.1, 3.9], [2.0, 2.0, 2.1]))
    lines = changes.lines(made, made)
    assert lines[0] == "the same commit, machine and versions"
    assert sum(line.endswith("no change") for line in lines) == 2


def test_the_quotients_interval_holds_the_truth():
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        new, old = (list(rng.lognormal(math.log(size), 0.1, 15)) for size in (3.0, 2.0))
        found = quotient(new, old)
        held += found.low <= 1.5 <= found.high
    assert held >= 85  # of a nominal 95; a percentile bootstrap of 15 samples is a little narrow


ODD = (None, True, -1, 0, 1e308, 10**400, "x", "\x1b[31m", "\u4e2d", [], {}, [None])


def places(told, path=()):
    """Every place of a JSON value below its top."""
    steps = told.items() if isinstance(told, dict) else enumerate(told)
    for step, value in steps:
        yield (*path, step)
        if isinstance(value, dict | list):
            yield from places(value, (*path, step))


def test_any_value_at_any_place_is_read_or_told_in_a_line(tmp_path, capfd):
    """Warnings are errors here: a letter that the font does not have would be one."""
    epochs = (EpochResult(1, 10.0, 1.0, 0.5),)
    trained = Training("scan", "JAX", 0, 1.0, 50.0, epochs, other_cores=0.0)
    made = dataclasses.replace(of(result([4.0, 5.0], [3.0, 3.0])), notebook=(trained,))
    text = write(made, tmp_path).read_text()
    good, path = saved.read(tmp_path), tmp_path / "odd.json"
    told = 0
    for number, place in enumerate(places(json.loads(text))):
        odd, changed = ODD[5 * number % len(ODD)], json.loads(text)
        *way, last = place
        at = changed
        for step in way:
            at = at[step]
        at[last] = odd
        if isinstance(at, list) and number % 4 == 0:  # one that is missing
            del at[last]
        path.write_text(json.dumps(changed))
        try:
            found = saved.read(path)
            lines = [*changes.lines(good, found), *terminal.lines(found)]
            faster.figure(faster.machines([found, good])).savefig(tmp_path / "odd.svg")
        except InputError as error:
            told += 1
            lines = [str(error)]
        assert all(line.isprintable() for line in lines), (place, odd)
    assert told > 30
