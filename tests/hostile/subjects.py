"""What writes files: the old is in a folder, work makes it the new, and which of them is there.

Each subject has the `name` of what it writes, `old(folder)`, `work(folder)`, and `state(folder)`:
"old" or "new", or else an error.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from report_content import content

from hostile.formats import MODEL, RECORDS, SPEC, batches, images_of, same
from jax_impl.data import datasets
from jax_impl.models.model import Variables
from parity.commands import convert
from parity.pairs import weight_source
from parity.pairs.weight_files import read_safetensors
from parity.report import report
from parity.shell import files, prepare
from parity.shell.options import ConvertOptions
from parity.shell.run_directory import RunDirectory


def which(found: Any, old: Any, new: Any) -> str:
    """Which of the two lists of arrays it is."""
    return "old" if same(found, old) else "new" if same(found, new) else "another"


class Converted:
    """`parity convert --overwrite` over other weights."""

    name = "a.pth"

    def __init__(self, place: Path):
        self.weights = [self._weights(seed) for seed in (0, 1)]
        self.source = place / "source.safetensors"
        convert.write(self.source, self.weights[1], SPEC, MODEL)
        self.before = place / self.name
        convert.write(self.before, self.weights[0], SPEC, MODEL)

    def _weights(self, seed: int) -> Variables:
        return jax.tree.map(np.asarray, MODEL.init(seed))

    def old(self, folder: Path) -> None:
        copy = shutil.copytree if self.before.is_dir() else shutil.copy
        copy(self.before, folder / self.name)

    def work(self, folder: Path) -> None:
        convert.run(ConvertOptions(self.source, folder / self.name, str(SPEC), overwrite=True))

    def state(self, folder: Path) -> str:
        found = weight_source.read(folder / self.name, SPEC, MODEL)
        return which(*(jax.tree.leaves(each) for each in (found, *self.weights)))


class ConvertedSafetensors(Converted):
    name = "a.safetensors"


class ConvertedOrbax(Converted):
    name = "a"


class Prepared:
    """`parity prepare --overwrite` over what was prepared from another archive."""

    name = "data"

    def __init__(self, place: Path):
        self.before, self.images = place / "before", []
        for number in (0, 1):
            source, target = place / f"source {number}", (self.before, place / "after")[number]
            source.mkdir()
            for name, text in batches(number).items():
                (source / name).write_bytes(text)
            prepare.prepare(target, source, records=RECORDS, log=lambda _: None)
            self.images.append(images_of(datasets.load_cifar10(target, RECORDS)))

    def old(self, folder: Path) -> None:
        shutil.copytree(self.before, folder / self.name)

    def work(self, folder: Path) -> None:
        source = self.before.parent / "source 1"
        target = folder / self.name
        prepare.prepare(target, source, overwrite=True, records=RECORDS, log=lambda _: None)

    def state(self, folder: Path) -> str:
        """As the next preparation leaves it."""
        target = folder / self.name
        prepare.prepare(target, records=RECORDS, log=lambda _: None)
        others = {path.name for path in target.iterdir()}
        assert others == {path.name for path in self.before.iterdir()}, f"{others} in it"
        return which(images_of(datasets.load_cifar10(target, RECORDS)), *self.images)


class Report:
    """The report of `parity run`, where there was none."""

    name = "report"

    def __init__(self, place: Path):
        made = content()
        self.report = report.Report(made["environment"], made["data"], [], [], None)

    def old(self, folder: Path) -> None: ...

    def work(self, folder: Path) -> None:
        report.write(self.report, folder / self.name)

    def state(self, folder: Path) -> str:
        target = folder / self.name
        if not target.exists():
            return "old"
        json.loads((target / "report.json").read_text())
        assert (target / "report.html").read_text().rstrip().endswith("</html>")
        assert (target / "report.md").read_text() == report.to_markdown(self.report)
        return "new"


class Run:
    """A training's run directory, which has no old one; each file in it is whole."""

    name = "run"

    def __init__(self, place: Path):
        self.arrays = {"fc.weight": np.arange(500.0)}

    def old(self, folder: Path) -> None: ...

    def work(self, folder: Path) -> None:
        with RunDirectory(folder / self.name, "simple_cnn", "jax") as run:
            run.config({"model": "simple_cnn", "long": "x" * 500})
            for epoch in range(3):
                run.metrics(epoch=epoch, loss=1.5)
            run.weights(self.arrays, SPEC, "jax")

    def state(self, folder: Path) -> str:
        names = {path.name for path in (folder / self.name).glob("[!.]*")}
        if "weights.safetensors" in names:
            found = read_safetensors(folder / self.name / "weights.safetensors")[0]
            assert same([np.asarray(found["fc.weight"])], [*self.arrays.values()])
            assert names == {"config.json", "metrics.jsonl", "weights.safetensors"}
        if "config.json" in names:
            json.loads((folder / self.name / "config.json").read_text())
        if "metrics.jsonl" in names:
            lines = (folder / self.name / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line)["epoch"] for line in lines] == list(range(len(lines)))
        return "new" if "weights.safetensors" in names else "old"


class Written:
    """A file of a benchmark's, over the one before."""

    name = "a.json"

    def __init__(self, place: Path):
        self.texts = [b"[" + bytes([48 + number]) * 3000 + b"]" for number in (1, 2)]

    def old(self, folder: Path) -> None:
        (folder / self.name).write_bytes(self.texts[0])

    def work(self, folder: Path) -> None:
        files.write_whole(folder / self.name, self.texts[1])

    def state(self, folder: Path) -> str:
        found = self.texts.index((folder / self.name).read_bytes())
        return ("old", "new")[found]


SUBJECTS = {
    "pth": Converted,
    "safetensors": ConvertedSafetensors,
    "orbax": ConvertedOrbax,
    "prepared": Prepared,
    "report": Report,
    "run": Run,
    "written": Written,
}
