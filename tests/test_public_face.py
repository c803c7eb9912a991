"""What the packages name in public, and what the installed command is."""

import importlib
import subprocess
import sys

import pytest
from test_rooms import ROOT, modules

import jax_impl
import parity
from parity.program import EXAMPLES


@pytest.mark.quick
def test_every_module_can_be_imported():
    for name, _ in modules(ROOT):
        if name.split(".")[0] in ("jax_impl", "torch_ref", "parity"):
            importlib.import_module(name)


@pytest.mark.parametrize("package", [jax_impl, parity], ids=lambda package: package.__name__)
def test_every_public_name_is_there(package):
    assert package.__all__ == sorted(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'Pear'"):
        package.Pear  # noqa: B018
    exec(f"from {package.__name__} import *", {})
    assert (ROOT / package.__name__ / "py.typed").exists()


@pytest.mark.parametrize("package", ["jax_impl", "parity"])
def test_what_a_type_checker_sees_is_what_there_is(package):
    """The imports under TYPE_CHECKING and the homes of the lazy ones are the same."""
    text = (ROOT / package / "__init__.py").read_text()
    module = importlib.import_module(package)
    seen = [line.split()[-1] for line in text.splitlines() if line.startswith("    from ")]
    assert sorted(n for n in seen if n in module.__all__) == module.__all__


def test_a_typo_loads_no_framework():
    code = (
        "import sys, jax_impl, parity\n"
        "for package in (jax_impl, parity):\n"
        "    dir(package)\n"
        "    try: package.creat_model\n"
        "    except AttributeError: pass\n"
        "assert not {'jax', 'torch', 'flax', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_ends_with_two_examples_and_shows_no_none(command):
    arguments = [command] if command else []
    done = subprocess.run(
        [sys.executable, "-m", "parity", *arguments, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0 and "None" not in done.stdout
    *_, title, first, second = done.stdout.splitlines()
    assert (title, first.strip(), second.strip()) == ("examples:", *EXAMPLES[command])


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_commands(line):
    from parity.program import Options, named
    from parity.shell import cli

    program, *arguments = line.split()
    assert program == "parity" and cli.parse(Options, named(arguments), prog="parity")
