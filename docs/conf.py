"""Configuration of the documentation site; ``make docs`` builds it into ``site/``.

Nothing is fetched while building or reading: no web fonts, no scripts from elsewhere, no inventories of
other projects.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Any

import click
from docutils import nodes
from docutils.nodes import Element, Node, TextElement
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from onnx_pipeline.cli.commands import cli

HELP_WIDTH = 100

project = "onnx-pipeline"
release = version = installed_version("onnx-pipeline")
copyright = "the authors of onnx-pipeline; Apache-2.0"

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["*.csv"]
suppress_warnings = ["config.cache"]
# A reference that leads nowhere is an error; the Makefile turns warnings into errors.
nitpicky = True
# Fixed strings such as ``"profile"`` and -- in prose stay as they are written.
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"onnx-pipeline {release}"
html_show_sourcelink = False
html_copy_source = False

myst_heading_anchors = 3
# The notebook is shown as it was stored; its tests execute it.
nb_execution_mode = "off"

# Signatures name parameters and defaults; the numpydoc sections below them give the types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False


def setup(app: Sphinx) -> None:
    """Add the directive for the command line, and resolve references from wherever a docstring is written."""
    app.add_directive("command-help", CommandHelp)
    app.connect("missing-reference", _resolve)


class CommandHelp(SphinxDirective):
    """A section per command with what its ``--help`` prints."""

    def run(self) -> list[Node]:
        """Return the sections."""
        return [self._section(path, text) for path, text in _helps(cli, None, "onnx-pipeline")]

    def _section(self, path: str, text: str) -> Node:
        section = nodes.section(ids=[nodes.make_id(path)], names=[path])
        section += [nodes.title(text=path), nodes.literal_block(text, text, language="text")]
        self.state.document.note_implicit_target(section)
        return section


def _helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    """Yield path and help of a command and of those below it."""
    context = click.Context(command, parent, name, terminal_width=HELP_WIDTH, **command.context_settings)
    yield context.command_path, context.get_help()
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from _helps(command.commands[child], context, child)


def _resolve(app: Sphinx, env: BuildEnvironment, node: Element, content: TextElement) -> Element | None:
    """Resolve what Sphinx cannot: docstrings name objects where they live, the site by their public names.

    ``split`` and ``onnx_pipeline.pipeline.split`` lead to the one documented object of that last name. An
    internal object that exists stays plain text; one that does not exist remains an error.
    """
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    python: Any = env.get_domain("py")
    last = target.rpartition(".")[2]
    found = [
        name for name, entry in python.objects.items() if name.split(".")[-1] == last and not entry.aliased
    ]
    if len(found) == 1:
        again = copy(node)
        again["reftarget"] = found[0]
        return python.resolve_xref(
            env, node["refdoc"], app.builder, node["reftype"], found[0], again, content
        )
    return content if _exists(target) else None


def _exists(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    head, _, last = name.rpartition(".")
    try:
        return hasattr(import_module(head), last) or bool(import_module(name))
    except (ImportError, ValueError):
        return False
