"""How the documents become a site: Sphinx with the furo theme, and MyST for Markdown. CONTRIBUTING.md says how to build it.

The pages are plain Markdown, and complete in a repository viewer. Four rules make a site of them:

* The source folder is the checkout, not docs/, so a relative link means the same file in both: ``../README.md`` is a page
  of the site, too, and a link to what is no page (a program, a test) becomes a download.
* The lists of links below the headings of docs/index.md are the site's navigation (:func:`navigation`).
* The programs that examples/README.md lists stand below it, too (:func:`listings`).
* ``eval-rst`` blocks in docs/reference/ name what is documented; the text comes from the docstrings.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from discoro import __version__  # noqa: E402

project = "discoro"
release = version = __version__
copyright = "the authors of discoro"

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/README.md"]
exclude_patterns = [".*", "**/_build", "build", "dist", "**/node_modules", "**/*.egg-info"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]

# The anchors of a repository viewer.
myst_heading_anchors = 4
# A picture is a ``mermaid`` block, as repository viewers have it. The reader's browser draws it, and fetches what it needs for that;
# without a network it shows the text.
myst_fence_as_directive = ["mermaid"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Every reference to a public name of ours must lead somewhere. Those of Python and of others are not looked up: no network. Types
# of annotations that are not public are only named.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!discoro\.).*"),
    ("py:class", r"discoro\.(?!errors\.)[a-z_]+\..*|discoro\.LocalCoro"),
]

html_theme = "furo"
html_title = f"discoro {__version__}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]


def navigation(index: str) -> str:
    """Make a hidden table of contents of each list of links of an index page."""
    tables = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption, _, text = section.partition("\n")
        links = re.findall(r"^\* \[([^]]*)\]\(([\w/.-]+)\.md\)", text, re.MULTILINE)
        pages = "\n".join(f"{title} <{page}>" for title, page in links)
        tables.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}")
    return "".join(f"\n\n{table}\n```\n" for table in tables)


def listings(readme: str) -> str:
    """Show each program that a page links."""
    programs = re.findall(r"\]\((\w+\.py)\)", readme)
    return "".join(f"\n\n## {name}\n\n```{{literalinclude}} {name}\n```\n" for name in programs)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += navigation(source[0])
    if page == "examples/README":
        source[0] += listings(source[0])


def _finished(app: Sphinx, failed: Exception | None) -> None:
    """Lead from the site's top to the index, which stands where docs/ is."""
    if failed is None and app.builder.format == "html":
        to = app.builder.get_target_uri(root_doc)
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={to}"><a href="{to}">discoro</a>\n'
        (Path(app.outdir) / "index.html").write_text(page)


def _signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, arguments: str, result: str
) -> tuple[str, str] | None:
    """Errors are raised, not made: how is nothing for users."""
    return ("", "") if what == "exception" and arguments else None


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-signature", _signature)
    app.connect("build-finished", _finished)
