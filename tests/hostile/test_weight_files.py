"""Weights that are damaged, of types that hold none, or in the way of what is to be written."""

import gc
import io
import json
import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.torch
import torch

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.training.checksums import KEY, checksum
from parity.commands import convert
from parity.shell.options import ConvertOptions

MODEL = "simple_cnn:channels=4,4:hidden=8"
WEIGHT = "conv1.weight"


def state_of(name: str = "simple_cnn", **options) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    options = options or ({"channels": (4, 4), "hidden": 8} if name == "simple_cnn" else {})
    return torch_ref.models.create_model(name, **options).state_dict()


def converted(source: Path, target: Path, model: str = MODEL, overwrite: bool = True) -> None:
    convert.run(ConvertOptions(source, target, model, overwrite=overwrite))


def refused(source: Path, target: Path, model: str = MODEL) -> str:
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(InputError) as error:
        converted(source, target, model)
    assert sorted(target.parent.rglob("*")) == before
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.save(state_of(), tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.parametrize("content", [None, "notes.txt", "weights.safetensors"])
def test_a_folder_of_the_users_is_not_replaced(content, saved, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    source = saved
    if content == "weights.safetensors":
        source = folder / content
        converted(saved, source)
    elif content is not None:
        (folder / content).write_text("thesis")
    message = refused(source, folder)
    assert "holds the input" in message or "only a checkpoint is replaced" in message


def test_a_checkpoint_with_something_else_in_it_is_not_replaced(saved, tmp_path):
    converted(saved, tmp_path / "ck")
    converted(saved, tmp_path / "ck")  # of Orbax's alone
    (tmp_path / "ck" / "notes.txt").write_text("thesis")
    assert "notes.txt" in refused(saved, tmp_path / "ck")


@pytest.mark.parametrize("place", ["d/thesis.txt", "d/mine.pth", "ocdbt.process_0/notes", "d/x/y"])
def test_a_checkpoint_with_something_else_deep_in_it_is_not_replaced(place, saved, tmp_path):
    converted(saved, tmp_path / "ck")
    path = tmp_path / "ck" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("thesis")
    assert place.split("/")[1] in refused(saved, tmp_path / "ck")


def test_a_folder_that_only_looks_like_a_checkpoint_is_not_replaced(saved, tmp_path):
    (tmp_path / "ck" / "d").mkdir(parents=True)
    (tmp_path / "ck" / "_METADATA").write_text("of my own")
    assert "no whole checkpoint" in refused(saved, tmp_path / "ck")
    (tmp_path / "ck" / "_METADATA").unlink()
    (tmp_path / "ck" / "manifest.ocdbt").symlink_to(saved)
    assert "holds manifest.ocdbt" in refused(saved, tmp_path / "ck")


def test_nothing_is_written_into_the_input(saved, tmp_path):
    converted(saved, tmp_path / "ck")
    assert "inside of the input" in refused(tmp_path / "ck", tmp_path / "ck" / "d" / "a.pth")


def test_pipes_are_neither_read_nor_replaced(saved, tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    assert "neither a file nor a folder" in refused(tmp_path / "pipe.pth", tmp_path / "out.pth")
    assert "neither a file nor a folder" in refused(saved, tmp_path / "pipe.pth")


def test_a_name_that_is_not_utf8_is_refused_where_orbax_cannot_take_it(saved, tmp_path, capfd):
    name = os.fsdecode(b"caf\xe9")
    assert "UTF-8" in refused(saved, tmp_path / name)
    converted(saved, tmp_path / f"{name}.pth")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("after", [1, 2])
def test_an_interruption_between_two_renames_leaves_one_of_the_two(
    after, saved, tmp_path, monkeypatch
):
    converted(saved, tmp_path / "ck")
    monkeypatch.setattr(convert, "exchange", lambda *_: False)  # as on other systems
    rename, count = Path.rename, [0]

    def interrupted(self, target):
        found = rename(self, target)
        # Orbax renames too; what is put in place comes last.
        count[0] += Path(target).name == "old" or Path(target) == tmp_path / "ck"
        if count[0] == after:
            count[0] = 9
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        converted(saved, tmp_path / "ck")
    monkeypatch.undo()
    converted(tmp_path / "ck", tmp_path / "again.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "again.pth", "ck"]


def test_links_in_a_circle_are_told(saved, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot write" in refused(saved, tmp_path / "loop")
    assert "there is no" in refused(tmp_path / "loop", tmp_path / "out.pth")


def test_compressed_entries_are_refused(saved, tmp_path):
    with (
        zipfile.ZipFile(saved) as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "is compressed" in refused(tmp_path / "b.pth", tmp_path / "out.safetensors")


def test_a_flipped_bit_is_noticed(saved, tmp_path):
    entry = max(zipfile.ZipFile(saved).infolist(), key=lambda each: each.file_size)
    content = bytearray(saved.read_bytes())
    content[entry.header_offset + entry.file_size // 2 + 200] ^= 1
    (tmp_path / "flip.pth").write_bytes(content)
    message = refused(tmp_path / "flip.pth", tmp_path / "out.safetensors")
    assert "is damaged" in message and "checksum" in message
    converted(saved, tmp_path / "b.safetensors")
    content = bytearray((tmp_path / "b.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "flip.safetensors").write_bytes(content)
    message = refused(tmp_path / "flip.safetensors", tmp_path / "out.pth")
    assert "is damaged: the checksum of" in message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own
def test_a_flipped_bit_of_a_checkpoint_is_noticed(saved, tmp_path):
    converted(saved, tmp_path / "ck")
    chunks = [p for p in (tmp_path / "ck").rglob("*") if p.is_file() and p.parent.name == "d"]
    refusals = 0
    for chunk in chunks:
        content = chunk.read_bytes()
        for place in np.linspace(0, len(content) - 1, 5).astype(int):
            flipped = bytearray(content)
            flipped[place] ^= 1
            chunk.write_bytes(flipped)
            try:
                converted(tmp_path / "ck", tmp_path / "out.safetensors")
            except InputError as error:
                refusals += 1
                assert "\n" not in str(error)
            else:  # what the chunk says twice, or what nobody reads
                again = safetensors.torch.load_file(tmp_path / "out.safetensors")
                assert all(torch.equal(again[name], v) for name, v in state_of().items())
        chunk.write_bytes(content)
    gc.collect()  # what Orbax leaves behind of a damaged folder complains here and nowhere else
    assert refusals


def test_checksums_are_of_every_tensor_and_need_not_be_there(saved, tmp_path):
    converted(saved, tmp_path / "b.safetensors")
    file = safetensors.safe_open(tmp_path / "b.safetensors", "numpy")
    told = json.loads(file.metadata()[KEY])
    assert told == {name: checksum(file.get_tensor(name)) for name in state_of()}
    safetensors.torch.save_file(state_of(), tmp_path / "foreign.safetensors")
    converted(tmp_path / "foreign.safetensors", tmp_path / "out.pth")
    for text in ("[", "[" * 100_000, "3"):
        safetensors.torch.save_file(state_of(), tmp_path / "odd.safetensors", {KEY: text})
        assert "checksums" in refused(tmp_path / "odd.safetensors", tmp_path / "out.pth")


def test_what_a_file_says_of_its_model_is_told_escaped(tmp_path):
    for said in ("res\nnet\x1b[31m" + 3000 * "x", ""):
        safetensors.torch.save_file(state_of(), tmp_path / "a.safetensors", {"model": said})
        message = refused(tmp_path / "a.safetensors", tmp_path / "out.pth")
        assert "\x1b" not in message and "pass --model" not in message


@pytest.mark.parametrize("name", ["a.safetensors", "a"])
def test_weights_of_another_model_with_the_same_names_and_shapes_are_refused(name, tmp_path):
    """Images of 33 pixels are pooled to maps of 8 as well."""
    torch.save(state_of(), tmp_path / "a.pth")
    converted(tmp_path / "a.pth", tmp_path / name)
    message = refused(tmp_path / name, tmp_path / "out.pth", f"{MODEL}:image_size=33")
    assert f"says that it holds {MODEL}" in message


def test_a_negative_view_is_read(tmp_path):
    state = state_of()
    negative = torch.complex(state[WEIGHT], state[WEIGHT]).conj().imag
    assert negative.is_neg()
    torch.save(state | {WEIGHT: negative}, tmp_path / "a.pth")
    converted(tmp_path / "a.pth", tmp_path / "b.safetensors")
    found = safetensors.torch.load_file(tmp_path / "b.safetensors")
    assert torch.equal(found[WEIGHT], -state[WEIGHT])


ODD = {
    "nested": lambda v: torch.nested.nested_tensor([v[0], v[1]]),
    "jagged": lambda v: torch.nested.nested_tensor([v[0], v[1]], layout=torch.jagged),
    "int": lambda v: v.to(torch.int32),
    "bool": lambda v: v > 0,
    "complex": lambda v: v.to(torch.complex64),
    "conjugated": lambda v: v.to(torch.complex64).conj(),
    "float8": lambda v: v.to(torch.float8_e4m3fn),
    "sparse": lambda v: v.to_sparse(),
    "meta": lambda v: torch.empty(v.shape, device="meta"),
}


@pytest.mark.parametrize(
    "kind, suffix",
    [*((kind, ".pth") for kind in ODD), *((k, ".safetensors") for k in ("int", "bool", "float8"))],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_that_are_no_weights_are_named(kind, suffix, tmp_path):
    state = state_of() | {WEIGHT: ODD[kind](state_of()[WEIGHT])}
    path = tmp_path / f"odd{suffix}"
    save = torch.save if suffix == ".pth" else safetensors.torch.save_file
    save(state, path)
    assert WEIGHT in refused(path, tmp_path / "out.pth")


@pytest.mark.parametrize("value", [2**31 + 5, -1, 1.75, float("nan"), float("inf")])
def test_a_count_that_is_none_is_refused(value, tmp_path):
    state = state_of("resnet20")
    name = next(name for name in state if name.endswith("tracked"))
    safetensors.torch.save_file(state | {name: torch.tensor(value)}, tmp_path / "a.safetensors")
    assert name in refused(tmp_path / "a.safetensors", tmp_path / "out.pth", "resnet20")


def test_names_of_a_file_are_told_escaped_and_shortened(tmp_path):
    for number, name in enumerate((0, "\x1b[31mred\n", "x" * 10_000)):
        torch.save(state_of() | {name: torch.zeros(1)}, tmp_path / f"{number}.pth")
        message = refused(tmp_path / f"{number}.pth", tmp_path / "out.pth")
        assert "\x1b" not in message
    safetensors.torch.save_file({"é\x07" * 300: torch.zeros(1)}, tmp_path / "a.safetensors")
    assert "\\x07" in refused(tmp_path / "a.safetensors", tmp_path / "out.pth")


def test_a_checkpoint_of_more_than_arrays_is_refused(tmp_path):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = {"params": {"note": "hello"}}
        checkpointer.save(tmp_path / "ck", args=ocp.args.PyTreeSave(tree))  # pyright: ignore
    assert "note" in refused(tmp_path / "ck", tmp_path / "out.pth")


@pytest.mark.filterwarnings("error")
def test_what_is_no_state_dict_gives_no_warning(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pth", "w") as file:
        file.writestr("script/constants.pkl", b"\x80\x02N.")
        file.writestr("script/code/__torch__.py", "pass")
    (tmp_path / "protocol.pth").write_bytes(b"\x80\x04}\x94\x8c\x01a\x94K\x01s.")
    for name in ("script.pth", "protocol.pth"):
        assert refused(tmp_path / name, tmp_path / "out.safetensors")


def test_a_file_that_is_none_of_pytorchs_is_not_read_whole(saved, tmp_path):
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it has the size and takes no room
    assert "no file of torch.save's" in refused(tmp_path / "huge.pth", tmp_path / "out.pth")
    (tmp_path / "cut.pth").write_bytes(saved.read_bytes()[:-500])
    assert "is cut off or damaged" in refused(tmp_path / "cut.pth", tmp_path / "out.pth")


class Code:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(zipped, tmp_path, capfd):
    content = state_of() | {"extra": Code()}
    torch.save(content, tmp_path / "code.pth", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "code.pth", tmp_path / "out.pth")
    assert "holds the code" in message and "print" in message
    assert "it ran" not in capfd.readouterr().out


def test_code_of_a_long_name_is_told_in_a_short_line(tmp_path):
    content = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, content)
    with zipfile.ZipFile(content) as file, zipfile.ZipFile(tmp_path / "long.pth", "w") as made:
        for entry in file.infolist():
            text = file.read(entry).replace(b"_rebuild_tensor_v2", b"r" * 5000)
            made.writestr(entry.filename, text)
    message = refused(tmp_path / "long.pth", tmp_path / "out.pth")
    assert "holds the code torch._utils.rrrr" in message and len(message) < 500


def test_pytorchs_format_of_before_2020_is_read(tmp_path):
    torch.save(state_of(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    converted(tmp_path / "old.pth", tmp_path / "b.safetensors")
    found = safetensors.torch.load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(found[name], value) for name, value in state_of().items())


def test_storages_of_the_old_format_claim_no_more_than_the_file_has(tmp_path):
    torch.save(state_of(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pth").read_bytes()
    count = state_of()[WEIGHT].numel()
    claim = content.replace(
        b"K" + bytes([count]) + b"N", b"J" + (10**9).to_bytes(4, "little") + b"N", 1
    )
    assert claim != content
    (tmp_path / "old.pth").write_bytes(claim)
    assert "it claims 1,000,0" in refused(tmp_path / "old.pth", tmp_path / "out.pth")


def test_a_part_that_is_marked_as_a_folder_is_damage(saved, tmp_path):
    """PyTorch itself takes it for empty, and gives whatever lies in memory."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for entry in old.infolist():
            made = zipfile.ZipInfo(entry.filename)
            made.external_attr = 0x10 if entry.filename.endswith("data/0") else 0
            new.writestr(made, old.read(entry))
    message = refused(tmp_path / "b.pth", tmp_path / "out.safetensors")
    assert "is damaged" in message and "data/0" in message


@pytest.mark.parametrize("change", [-4, 4])
def test_a_part_of_another_size_than_its_tensor_is_refused(change, saved, tmp_path):
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data/0"):
                content = content + bytes(change) if change > 0 else content[:change]
            new.writestr(entry.filename, content)
    assert "size" in refused(tmp_path / "b.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("made", "kind"), [("ck", "folder"), ("mine.pth", "file"), ("gone.pth", "file")]
)
def test_a_link_is_no_place_to_write(made, kind, saved, tmp_path):
    """Replaced would be the link, and not what it names."""
    if made != "gone.pth":
        converted(saved, tmp_path / made)
    link = tmp_path / f"link{Path(made).suffix}"
    link.symlink_to(made)
    message = refused(saved, link)
    assert f"is a link to the {kind} {tmp_path / made}: name the {kind} itself" in message
    assert link.is_symlink()


def test_a_folder_of_the_users_is_told_by_what_is_in_it(saved, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("thesis")
    assert "holds notes.txt: only" in refused(saved, tmp_path / "mine")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "ck"])
def test_a_full_disk_is_told_of_the_file_that_was_named(name, tmp_path):
    torch.save(state_of("resnet20"), tmp_path / "big.pth")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        message = refused(tmp_path / "big.pth", tmp_path / name, "resnet20")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write {tmp_path / name}: " in message and len(message) < 500
    assert f".{name}-" not in message
