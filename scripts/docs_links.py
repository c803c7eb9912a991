"""For `make docs`: what the pages link to outside of docs/.

Pictures are taken into the site. A link to anything else of the checkout becomes its path.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
NOTEBOOK = re.compile(r"\[[^\]]*\]\((\w+\.ipynb)\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds every picture that a page shows from elsewhere."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for shown, _, path in OUTSIDE.findall(page.read_text()):
            if shown and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page whose links stay within the site."""

    def inside(link: re.Match[str]) -> str:
        shown, text, path = link.groups()
        return f"![{text}]({path})" if shown else f"{text} (`{path}`)"

    return NOTEBOOK.sub(r"`docs/\1`", OUTSIDE.sub(inside, markdown))
