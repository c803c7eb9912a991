"""What a study has come to, in its folder: study.json, study.md, study.html and the plots.

Imports no framework.
"""

import json
from pathlib import Path
from typing import Any

from parity.shell.files import to_json, write_whole
from parity.study import plots, tables
from parity.study.description import Study

JSON, MARKDOWN, HTML = "study.json", "study.md", "study.html"


def write_json(folder: Path, told: dict[str, Any]) -> None:
    """All of it, raw."""
    write_whole(folder / JSON, (to_json(told, indent=1) + "\n").encode())


def write_all(folder: Path, study: Study, told: dict[str, Any]) -> list[str]:
    """The same for a person; the names of what was written."""
    told = json.loads(to_json(told))
    write_json(folder, told)
    drawn = plots.draw(study, told["trainings"])
    for name, kinds in drawn.items():
        for kind, content in kinds.items():
            write_whole(folder / f"{name}.{kind}", content)
    svgs = {name: kinds["svg"].decode() for name, kinds in drawn.items()}
    write_whole(folder / MARKDOWN, tables.markdown(study, told, [*drawn]).encode())
    write_whole(folder / HTML, tables.html(study, told, svgs).encode())
    return [JSON, MARKDOWN, HTML, *(f"{name}.png" for name in drawn)]
