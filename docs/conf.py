"""How the documentation is built: ``sphinx-build -W docs OUT``, without network."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import nuncius

project = "nuncius"
author = "The nuncius developers"
project_copyright = author
release = nuncius.__version__
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_click"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"nuncius {release}"

# One name between single backticks in a docstring is a Python name; it becomes a link where it is documented.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autoclass_content = "class"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# The packages in the order in which the reference shows them. A thing that several of them export is documented once,
# under the first: `nuncius.Alert`, not `nuncius.alerts.alert.Alert`.
DOCUMENTED = [
    "nuncius",
    "nuncius.alerts",
    "nuncius.alerts.packets",
    "nuncius.alerts.surveys",
    "nuncius.streams",
    "nuncius.streams.where",
    "nuncius.streams.attributes",
    "nuncius.streams.pubsub",
    "nuncius.aio",
    "nuncius.brokers",
    "nuncius.archives",
    "nuncius.archives.language",
    "nuncius.cloudfits",
    "nuncius.datasets",
    "nuncius.compat.penquins",
    "nuncius.compat.antares_client",
    "nuncius.compat.astro_cloud",
    "nuncius.compat.astro_cloud.fits",
    "nuncius.compat.astro_cloud.auth.aws",
    "nuncius.compat.dtool_lookup_api",
    "nuncius.compat.dtool_lookup_api.asynchronous",
    "nuncius.compat.dtool_lookup_api.core.LookupClient",
    "nuncius.compat.dtool_lookup_api.core.config",
    "nuncius.compat.tom_pittgoogle",
    "nuncius.compat.tom_pittgoogle.consumer_stream_python",
    "nuncius.plots",
    "nuncius.sandbox",
    "nuncius.sky",
    "nuncius.settings",
    "nuncius.credentials",
    "nuncius.errors",
]
GENERATED = Path(__file__).parent / "reference" / "generated"


def exists(module: str) -> bool:
    """Tell whether the module is there, with a file of its own."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


if not exists("nuncius.cli"):
    exclude_patterns.append("reference/cli.md")


def write_reference(_app: Any) -> None:
    """Write one page for each public module, with its public things, each of them once."""
    GENERATED.mkdir(exist_ok=True)
    seen: set[int] = set()
    pages = {
        f"{number:02d}-{name}.rst": page(name, seen) for number, name in enumerate(filter(exists, DOCUMENTED))
    }
    for old in GENERATED.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = GENERATED / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
            path.write_text(text, encoding="utf-8")


def page(name: str, seen: set[int]) -> str:
    """Return the page of a module; `seen` holds the identity of what has its place already."""
    module = importlib.import_module(name)
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    for item in public_names(module):
        value = getattr(module, item)
        if item.startswith("__") or id(value) in seen:
            continue
        seen.add(id(value))
        if inspect.isclass(value):
            # What an error derives from is how it is caught; elsewhere the bases tell a reader little.
            bases = ["   :show-inheritance:"] if issubclass(value, BaseException) else []
            lines += [f".. autoclass:: {name}.{item}", "   :members:", *bases, ""]
        elif inspect.isroutine(value):  # an alias of a type can be called too
            lines += [f".. autofunction:: {name}.{item}", ""]
    return "\n".join(lines)


def public_names(module: Any) -> list[str]:
    """Return the names that the module exports, or those defined in it if it has no list of them."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        item
        for item, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and item[0] != "_"
    ]


def setup(app: Any) -> None:
    """Write the reference before Sphinx looks for pages."""
    app.connect("builder-inited", write_reference)
