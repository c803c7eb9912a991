"""What is around a command: variables of the environment, blank arguments, the current folder."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest


def told(*arguments: str, cwd=None, **variables: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command with more variables in its environment."""
    command = [sys.executable, "-m", "parity", *arguments]
    env = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["train", "convert", "run"])
def test_a_platform_that_jax_does_not_have_is_named(command, tmp_path):
    (tmp_path / "ck").mkdir()
    arguments = {
        "train": ["--model", "simple_cnn", "--data", "digits", "--out", str(tmp_path / "out")],
        "run": ["--models", "simple_cnn", "--data", "digits", "--out", str(tmp_path / "out")],
        "convert": [str(tmp_path / "ck"), str(tmp_path / "b.pth"), "--model", "simple_cnn"],
    }[command]
    status, _, error = told(command, *arguments, JAX_PLATFORMS="nonsense")
    assert status == 2 and error.count("\n") == 1 and "JAX_PLATFORMS" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ck"]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["train", "--out", "", "--model", "simple_cnn"], "after --out"),
        (["train", "--out=", "--model", "simple_cnn"], "--out"),
        (["convert", "a.pth", " ", "--model", "simple_cnn"], "after a.pth"),
        ([""], "an argument"),
    ],
)
def test_a_blank_argument_is_no_path(arguments, named, tmp_path):
    status, _, error = told(*arguments, cwd=tmp_path, PYTHONPATH=os.getcwd())
    assert (status, error.count("\n")) == (2, 1) and f"{named} is blank" in error


PAIR = """
    import os
    import jax.numpy as jnp, numpy as np, torch, parity

    def apply(p, x):
        os.chdir("/")
        return x @ p["weight"].T + p["bias"]

    def make_pair(name="linear"):
        return parity.Pair(
            name, lambda: torch.nn.Linear(6, 3), apply,
            lambda state: {name: jnp.asarray(value) for name, value in state.items()},
            example_inputs=np.ones((2, 6), np.float32),
        )

    def unnamed():
        return make_pair("\\udcff\\n")
"""


@pytest.mark.parametrize("function", ["make_pair", "unnamed"])
def test_a_pair_that_changes_the_folder_or_has_a_name_that_cannot_be_printed(function, tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(PAIR))
    arguments = ["run", "--pair", f"mine:{function}", "--rungs", "forward", "--out", "out"]
    path = os.pathsep.join((os.getcwd(), str(tmp_path)))
    status, out, error = told(*arguments, cwd=tmp_path, PYTHONPATH=path)
    if function == "make_pair":
        assert (status, error) == (0, "") and (tmp_path / "out" / "report.html").exists()
        assert "report: out/report.html" in out
    else:
        assert status == 2 and error.count("\n") == 1 and "can be printed" in error
        assert not (tmp_path / "out").exists()


def test_while_libraries_are_unloaded_there_is_nothing_to_interrupt():
    code = (
        "import atexit, os, signal, sys\n"
        "from parity.shell import cli\n"
        "from parity.shell.options import ListOptions\n"
        "atexit.register(lambda: os.kill(os.getpid(), int(sys.argv.pop())))\n"
        "cli.run(lambda options: print('done'), ListOptions, [])"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        command = [sys.executable, "-c", code, str(int(number))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
