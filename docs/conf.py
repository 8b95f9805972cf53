"""Builds the pages: sphinx-build docs build/docs."""

import re

project = "kshot"
html_title = "kshot"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["requirements.txt"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files beside docs/, which GitHub follows
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_use_ivar = True
default_role = "code"

_MARKDOWN_TABLE = re.compile(r"^\|")


def _plain(app, what, name, obj, options, lines):
    """Shows mathematics and tables in docstrings as they stand in the source: a block of its own for each."""
    out, in_block, previous = [], False, ""
    for line in lines:
        block = bool(_MARKDOWN_TABLE.match(line)) or (what == "module" and line.startswith("    "))
        if block and not in_block and not previous.strip():
            out += ["::", ""]
        in_block = block or (in_block and not line.strip())
        escaped = re.sub(r"(?<![`\w])([*|])(?![`\s])", r"\\\1", line).replace("`s ", "`\\ s ").replace("`s,", "`\\ s,")
        out.append(f"    {line}" if _MARKDOWN_TABLE.match(line) else line if in_block else escaped)
        previous = line
    lines[:] = out


def setup(app):
    """Connects the above, before napoleon sees the docstrings."""
    app.connect("autodoc-process-docstring", _plain, priority=400)
