"""Preparing CIFAR-10: nothing half done, everything said."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RECORDS, binary_files, needs_tfds, write_tar
from prepare_support import PREPARED, PYTHON, ROOT, TFDS, tree

import parity.shell.prepare
import torch_ref.data
from jax_impl.data import archive, datasets
from jax_impl.errors import InputError
from parity.shell.data_choice import resolve
from parity.shell.prepare import find, prepare
from torch_ref import layout


@needs_tfds
def test_prepares_both_layouts(small_archive, tmp_path):
    directory = tmp_path / "new" / "data"
    lines: list[str] = []
    result = prepare(directory, small_archive, log=lines.append, records=RECORDS)
    sha256, _ = archive.checksums(small_archive)
    assert result == parity.shell.prepare.Prepared(directory, str(small_archive), sha256, False)
    assert find(directory) == result
    assert sorted(path.name for path in directory.iterdir()) == [PYTHON, "cifar10", "prepared.json"]
    assert [line for line in lines if sha256 in line and "used all the same" in line]
    assert lines[-1] == f"prepared CIFAR-10 in {directory}"
    # Both sides read it, and read the same.
    dataset = datasets.load_cifar10(directory, RECORDS)
    for split, torch_split in zip(
        (dataset.train, dataset.test), torch_ref.data.load("cifar10", directory), strict=True
    ):
        np.testing.assert_array_equal(torch_split.data, split.images)
        assert torch_split.targets == split.labels.tolist()


def test_manifest(small_archive, small_prepare, tmp_path):
    small_prepare(tmp_path, small_archive)
    manifest = json.loads((tmp_path / "prepared.json").read_text())
    assert set(manifest) == {"schema", "source", "sha256", "official", "files"}
    assert manifest["schema"] == 1 and manifest["official"] is False
    files = {name: md5 for name, md5 in (tree(tmp_path) or {}).items() if md5 != "folder"}
    del files["prepared.json"]
    assert manifest["files"] == files


def test_a_published_archive_is_named_one(small_archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "BINARY_SHA256", archive.checksums(small_archive)[0])
    lines: list[str] = []
    assert prepare(tmp_path, small_archive, log=lines.append, records=RECORDS).official
    assert not [line for line in lines if "SHA-256" in line]


def test_prepares_from_a_folder(small_files, small_prepare, tmp_path):
    folder = tmp_path / archive.BINARY_FOLDER
    folder.mkdir()
    for name, content in small_files.items():
        (folder / name).write_bytes(content)
    lines: list[str] = []
    result = small_prepare(tmp_path / "data", folder, log=lines.append)
    assert (result.source, result.sha256, result.official) == (str(folder), None, False)
    assert [line for line in lines if "is a folder" in line]
    assert small_prepare(tmp_path / "data", folder) == result


def test_is_quick_when_prepared(small_archive, small_prepare, tmp_path, no_network):
    result = small_prepare(tmp_path, small_archive)
    before = tree(tmp_path)
    lines: list[str] = []
    for again in (None, small_archive):
        assert small_prepare(tmp_path, again, log=lines.append) == result
    assert lines == [f"CIFAR-10 is already prepared in {tmp_path}"] * 2
    assert tree(tmp_path) == before


def test_another_archive_wants_overwrite(small_archive, other_archive, small_prepare, tmp_path):
    directory = tmp_path / "data"
    small_prepare(directory, small_archive)
    before = tree(directory)
    with pytest.raises(InputError, match="already holds CIFAR-10 .*--overwrite.*--data-dir"):
        small_prepare(directory, other_archive)
    assert tree(directory) == before
    first = datasets.load_cifar10(directory, RECORDS)
    small_prepare(directory, other_archive, overwrite=True)
    second = datasets.load_cifar10(directory, RECORDS)
    assert (second.test.images == first.train.images[:RECORDS]).all()
    test_set = torch_ref.data.load("cifar10", directory)[1]
    assert (test_set.data == second.test.images).all()
    assert len(list(directory.iterdir())) == PREPARED


@pytest.mark.parametrize("name", [TFDS, PYTHON])
def test_foreign_data_wants_overwrite(small_archive, small_prepare, tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "mine").write_text("precious")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="was not prepared here; pass --overwrite"):
        small_prepare(tmp_path, small_archive)
    assert tree(tmp_path) == before
    small_prepare(tmp_path, small_archive, overwrite=True)
    assert not (tmp_path / name / "mine").exists() and find(tmp_path)


def test_leaves_other_data_alone(small_archive, small_prepare, tmp_path):
    (tmp_path / "cifar10" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist").write_text("mine")
    small_prepare(tmp_path, small_archive)
    assert (tmp_path / "cifar10" / "3.0.1").is_dir() and (tmp_path / "mnist").is_file()


def test_incomplete_data_is_prepared_again(small_archive, small_prepare, tmp_path):
    small_prepare(tmp_path, small_archive)
    (tmp_path / PYTHON / "data_batch_3").unlink()
    assert find(tmp_path) is None
    small_prepare(tmp_path, small_archive)
    assert find(tmp_path) and (tmp_path / PYTHON / "data_batch_3").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "files": 3}'])
def test_damaged_manifest(small_archive, small_prepare, tmp_path, text):
    small_prepare(tmp_path, small_archive)
    (tmp_path / "prepared.json").write_text(text)
    with pytest.raises(InputError, match="prepared.json is damaged .*--overwrite"):
        small_prepare(tmp_path, small_archive)
    small_prepare(tmp_path, small_archive, overwrite=True)
    assert find(tmp_path)


def test_manifest_of_another_schema(small_archive, small_prepare, tmp_path):
    small_prepare(tmp_path, small_archive)
    path = tmp_path / "prepared.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(InputError, match="schema 2, not 1"):
        find(tmp_path)


def test_without_tfds_its_layout_is_left_out(small_archive, small_prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "has_tfds", lambda: False)
    lines: list[str] = []
    small_prepare(tmp_path, small_archive, log=lines.append)
    assert [line for line in lines if "is not installed" in line]
    assert not (tmp_path / "cifar10").exists()
    assert len(datasets.load_cifar10(tmp_path, RECORDS).test) == RECORDS
    monkeypatch.undo()
    assert len(datasets.load_cifar10(tmp_path, RECORDS).test) == RECORDS


# All or nothing.


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize(
    "step", ["read", "layout", pytest.param("tfds", marks=needs_tfds), "install"]
)
@pytest.mark.parametrize("there", ["nothing", "empty", "prepared"])
def test_an_interruption_changes_nothing(
    small_archive, other_archive, small_prepare, tmp_path, monkeypatch, step, there, interruption
):
    directory = tmp_path / "some" / "data"
    if there == "empty":
        directory.mkdir(parents=True)
    if there == "prepared":
        small_prepare(directory, small_archive)
    before = tree(tmp_path)

    def interrupt(*args: Any, **kwargs: Any) -> Any:
        raise interruption

    if step == "install":
        renames: list[Path] = []
        rename = Path.rename

        def rename_until(source: Path, target: Path) -> Path:
            # The last is the new manifest's, after which only the undoing may rename.
            result = rename(source, target)
            renames.append(source)
            if source.parent.name == "new" and source.name == "prepared.json":
                raise interruption
            return result

        monkeypatch.setattr(Path, "rename", rename_until)
    else:
        module, name = {
            "read": (archive, "read"),
            "layout": (layout, "write"),
            "tfds": (datasets, "_png"),
        }[step]
        monkeypatch.setattr(module, name, interrupt)
    with pytest.raises(interruption):
        small_prepare(directory, other_archive, overwrite=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("fails_at", range(2 * PREPARED))
def test_each_renaming_is_undone(
    small_archive, other_archive, small_prepare, tmp_path, monkeypatch, fails_at
):
    small_prepare(tmp_path / "data", small_archive)
    before = tree(tmp_path)
    rename, calls = Path.rename, []

    def fail(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == fails_at + 1:
            raise OSError(28, "No space left on device", str(target))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="cannot write .*No space left on device"):
        small_prepare(tmp_path / "data", other_archive, overwrite=True)
    assert tree(tmp_path) == before


def test_two_at_once(small_archive, small_prepare, tmp_path, monkeypatch):
    build = parity.shell.prepare._build

    def build_and_be_overtaken(*args: Any) -> None:
        build(*args)
        monkeypatch.setattr(parity.shell.prepare, "_build", build)
        small_prepare(tmp_path, small_archive)

    monkeypatch.setattr(parity.shell.prepare, "_build", build_and_be_overtaken)
    lines: list[str] = []
    assert small_prepare(tmp_path, small_archive, log=lines.append) == find(tmp_path)
    assert "by another process meanwhile" in lines[-1]
    assert len(list(tmp_path.iterdir())) == PREPARED


def test_directory_that_is_a_file(small_archive, small_prepare, tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot write "):
            small_prepare(directory, small_archive)
    assert (tmp_path / "file").read_text() == ""


# Through the script.


def run_script(*options: Any, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), *map(str, options)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def without_member(path: Path, files: dict[str, bytes]) -> None:
    write_tar(path, archive.BINARY_FOLDER, {"test_batch.bin": files["test_batch.bin"]})


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path, files: None, "No such file or directory"),
        (lambda path, files: path.write_bytes(b"no archive"), "is no tar archive"),
        (without_member, "lacks data_batch_1.bin"),
        (lambda path, files: path.mkdir(), "holds no CIFAR-10"),
        # 20 records where a published file has 10,000.
        (
            lambda path, files: write_tar(path, archive.BINARY_FOLDER, files, "xz"),
            "not 10,000 records of 3,073",
        ),
        (
            lambda path, files: write_tar(path, "..", files),
            "is unsafe",
        ),
    ],
)
def test_script_refuses_bad_archives(small_files, tmp_path, make, words):
    path, directory = tmp_path / "archive", tmp_path / "data"
    make(path, small_files)
    result = run_script("--archive", path, "--data-dir", directory)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and words in result.stderr
    assert str(path) in result.stderr and result.stderr.count("\n") == 1
    assert not directory.exists()


def test_script_prepares_a_full_size_archive(tmp_path):
    files = binary_files(10_000)
    path = write_tar(tmp_path / "full.tar", archive.BINARY_FOLDER, files)
    result = run_script("--archive", path, PARITY_DATA_DIR=str(tmp_path / "data"))
    assert (result.returncode, result.stderr) == (0, "")
    left_out = "" if datasets.has_tfds() else "tensorflow-datasets is not installed"
    assert len(result.stdout.splitlines()) == 3 + bool(left_out) and left_out in result.stdout
    assert "used all the same" in result.stdout
    dataset = datasets.load_cifar10(tmp_path / "data")
    rows = np.frombuffer(files["data_batch_5.bin"], np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(dataset.train.labels[40_000:], rows[:, 0])
    planes = dataset.train.images[40_000:].transpose(0, 3, 1, 2).reshape(-1, 3072)
    np.testing.assert_array_equal(planes, rows[:, 1:])
    again = run_script("--data-dir", tmp_path / "data")
    assert (again.returncode, again.stderr) == (0, "") and "already prepared" in again.stdout


@needs_tfds
def test_script_without_network(tmp_path):
    proxy = "http://127.0.0.1:1"
    started = time.perf_counter()
    result = run_script(
        "--data-dir", tmp_path / "data", HTTPS_PROXY=proxy, https_proxy=proxy, NO_PROXY=""
    )
    assert time.perf_counter() - started < 15
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "cannot be downloaded (no network" in result.stderr and "--archive" in result.stderr
    assert not (tmp_path / "data").exists()


# Downloading, from a server on this machine.


def test_real_data_is_found(cifar10_dir, cifar10_archive):
    prepared = find(cifar10_dir)
    assert prepared and prepared.source == str(cifar10_archive.resolve())
    assert prepared.sha256 == archive.checksums(cifar10_archive)[0]
    assert resolve("auto", cifar10_dir).name == "cifar10"


def test_what_a_killed_preparation_left_is_removed_by_the_next_one(
    small_archive, small_prepare, tmp_path
):
    dead, alive, new, old = (tmp_path / f".preparing-{n}" for n in ("dead", "alive", "new", "old"))
    for folder in (dead, alive, new, old):
        folder.mkdir()
        (folder / "half").write_bytes(b"written")
    (dead / "lock").touch()
    (old / "half").unlink()  # its process was ended before it had a lock
    with open(alive / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        small_prepare(tmp_path, small_archive)
        assert alive.exists() and new.exists() and not dead.exists() and not old.exists()
    small_prepare(tmp_path, small_archive, overwrite=True)
    assert not alive.exists()


def test_sigterm_leaves_nothing_of_a_preparation(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from parity.shell import cli, prepare\n"
        "from parity.shell.options import ListOptions\n"
        "def work(options):\n"
        "    with prepare._staging(pathlib.Path(sys.argv[1])):\n"
        "        print('ready', flush=True)\n"
        "        for _ in range(600):\n"
        "            time.sleep(0.1)  # a signal just before a sleep is answered after it\n"
        "cli.run(work, ListOptions, args=[])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "made")]
    pipes = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipes, stderr=pipes, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert list((tmp_path / "made").iterdir())
        process.terminate()
        errors = process.communicate(timeout=50)[1]
    assert (process.returncode, errors) == (130, "interrupted: by SIGTERM\n")
    assert not list(tmp_path.iterdir())
