"""How Sphinx makes pages of the library's docstrings; `make docs` builds them in build/docs."""

from importlib.metadata import version as installed
from typing import Any

from sphinx.application import Sphinx

project = "OrderFlow Outbox"
version = release = installed("orderflow-outbox")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
# Their own pages are elsewhere, and the build asks nobody for them.
nitpick_ignore_regex = [("py:.*", r"(collections\.abc|datetime|enum|os|sqlalchemy)\..*")]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_title = f"{project} {release}"
html_copy_source = False
html_show_copyright = False


def show_empty_mapping(*event: Any) -> tuple[str | None, str | None]:
    """Say what a dataclass makes of a mapping left out: the word it has for that cannot be read as a type."""
    signature, returns = event[-2:]
    return signature and signature.replace("<factory>", "{}"), returns


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", show_empty_mapping)
