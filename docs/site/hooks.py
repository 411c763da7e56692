"""Pages of the site that are not in docs/: documents of the root, linked source files, and what the code itself says.

Every link is written as a file of the repository has it, so that it works there, too; here it becomes one of the site.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path, PurePosixPath
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the documented package is this one, installed or not

DOCUMENTS = {
    "README.md": "index.md",
    "RESULTS.md": "results.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Markdown outside docs/ -> page of the site."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")
"""The target of a link to a file."""
CODE = re.compile(r"(^```.*?^```|(?:^ {4}[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
HTML = re.compile(r'(?<=src=")(?!\w+:)([^"]+)(?=")')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the root, the generated references, and every file that a document links to."""
    written = {
        f"docs/{file.src_uri}": Path(file.abs_src_path or "").read_text() for file in files.documentation_pages()
    }
    written |= {name: (ROOT / name).read_text() for name in DOCUMENTS}
    for name, uri in DOCUMENTS.items():
        files.append(File.generated(config, uri, content=written[name]))
    for uri, generate in GENERATED.items():
        files.append(File.generated(config, uri, content=generate()))
    for name in sorted({target for document, text in written.items() for target in _targets(text, document)}):
        uri = _site(name)
        if files.get_file_from_path(uri) is not None or not (ROOT / name).is_file():
            continue  # a link to nothing stays as it is, and the strict build names it
        if uri.endswith(".py.md"):
            text = f"---\nsearch: {{exclude: true}}\n---\n# {name}\n\n```python\n{(ROOT / name).read_text()}\n```\n"
            files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
        else:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    name = next((name for name, uri in DOCUMENTS.items() if uri == page.file.src_uri), f"docs/{page.file.src_uri}")

    def moved(found: re.Match[str]) -> str:
        target = _resolved(found[1], name)
        return os.path.relpath(_site(target), PurePosixPath(page.file.src_uri).parent)

    if page.file.src_uri in GENERATED:
        return markdown
    return _outside_code(markdown, lambda text: HTML.sub(moved, LINK.sub(moved, text)))


def _targets(text: str, document: str) -> set[str]:
    found: set[str] = set()

    def note(text: str) -> str:
        found.update(_resolved(target, document) for pattern in (LINK, HTML) for target in pattern.findall(text))
        return text

    _outside_code(text, note)
    return found


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if number % 2 else change(part) for number, part in enumerate(CODE.split(text)))


def _resolved(target: str, document: str) -> str:
    """A link's target as a path from the root."""
    return os.path.normpath(PurePosixPath(document).parent / target)


def _site(name: str) -> str:
    """Where a file of the repository is in the site."""
    if name in DOCUMENTS:
        return DOCUMENTS[name]
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"source/{name}.md" if name.endswith(".py") else f"source/{name}"


def commands() -> str:
    """The page of commands: what every program prints for --help."""
    from synthcl.programs.command import PROGRAMS

    page = ["# Commands\n\n`synthcl PROGRAM --help` prints the same.\n"]
    for name, what in PROGRAMS.items():
        printed = io.StringIO()
        arguments = mock.patch.object(sys, "argv", [f"synthcl {name}", "--help"])
        with arguments, mock.patch.dict(os.environ, COLUMNS="100"), redirect_stdout(printed), suppress(SystemExit):
            import_module(f"synthcl.programs.{name}").main()
        page.append(f"## {name}\n\n{what.capitalize()}.\n\n```text\n{printed.getvalue().strip()}\n```\n")
    return "\n".join(page)


def fields() -> str:
    """The page of fields: a table for every section of a configuration, and for every kind of a family."""
    from synthcl.programs.fields import places

    page = [
        "# Fields\n",
        "Any field can be set on the command line as `section.field=value`, or in a YAML file that `--preset` names.",
        "`synthcl fields SECTION` prints the same tables. NAME is a name of your choice.\n",
    ]
    for place, sections in places():
        schedules = any(section.kind == "constant" for section in sections)
        page.append("\n## Schedules\n" if schedules else f"\n## {place}\n")
        for section in sections:
            page.append(f"### {section.kind}\n" if len(sections) > 1 else "")
            page.append(f"{section.summary}\n\n| field | type | default | |\n| --- | --- | --- | --- |")
            for row in section.rows:
                cells = (f"`{row.name}`", row.type, f"`{row.default}`" if row.default else "", row.description)
                page.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            page.append("")
    return "\n".join(page)


def api() -> str:
    """The page of the Python interface: every public name of the package, from its docstring."""
    import synthcl

    lazy = "\n`import synthcl` imports neither torch, Ray nor Optuna: each name brings what it needs.\n"
    page = ["# Python names\n", inspect.getdoc(synthcl) or "", lazy]
    for name in sorted(synthcl.__all__):
        found = getattr(synthcl, name)
        own = f"synthcl.face.{name}" if inspect.ismodule(found) else found.__module__  # a module that can be called
        page.append(f"::: {own}.{name}\n")
        if name == "Config":
            page.append("    options: {members: [with_overrides]}\n\nIts sections and fields: [Fields](fields.md).\n")
    return "\n".join(page)


GENERATED = {"commands.md": commands, "fields.md": fields, "api.md": api}
"""page -> what writes it"""
