"""Hook of mkdocs: pages at the root of the project become pages of the site, and links between them lead there."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
HOMES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "examples/README.md": "examples.md",
    **{page: page for page in (f"benchmarks/log/{path.name}" for path in (ROOT / "benchmarks/log").glob("*.md"))},
}
"""Where a page of the project lies in the site."""
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, and the examples as files to be fetched."""
    for source, home in HOMES.items():
        files.append(File.generated(config, home, content=(ROOT / source).read_text(encoding="utf-8")))
    for source in sorted((ROOT / "examples").glob("*.*")):
        if source.name != "README.md":
            files.append(File.generated(config, f"examples/{source.name}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they must be in the site: those of the files are relative to the project."""
    origin = next((source for source, home in HOMES.items() if home == page.file.src_uri), f"docs/{page.file.src_uri}")
    here = (ROOT / origin).parent

    def lead(match: re.Match[str]) -> str:
        target = match[2]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = (here / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        # a link to a file outside the site becomes plain text
        inside = HOMES.get(name, name.removeprefix("docs/") if name.startswith(("docs/", "examples/")) else None)
        if path.is_dir() and name == "examples":
            inside = "examples.md"
        # mkdocs reads links relative to the page
        target = posixpath.relpath(inside or "index.md", posixpath.dirname(page.file.src_uri) or ".")
        return f"{match[1]}{target}{(match[3] or '') if inside else ''}{match[4]}"

    return LINK.sub(lead, markdown)
