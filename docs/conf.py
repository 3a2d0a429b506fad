"""How Sphinx makes the site of the documentation: `make docs`."""

import atexit
import shutil
from tempfile import mkdtemp

import jupyter_client
from traitlets import CaselessStrEnum, Unicode

from hpcbench import __version__

project = "hpcbench"
author = "the hpcbench developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
]
# MyST-NB writes the executed notebook beside _build.
exclude_patterns = ["_build", "jupyter_execute", "results"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository; a test checks them

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
"""For a cell, in seconds."""


_sockets = mkdtemp(prefix="docs-")
atexit.register(shutil.rmtree, _sockets, ignore_errors=True)


class KernelOverIpc(jupyter_client.AsyncKernelManager):
    """Talks to the kernel of the notebook through files that only this user may open.

    A port would be open to every user of the machine; the kernel warns of that.
    """

    transport = CaselessStrEnum(["tcp", "ipc"], default_value="ipc")
    # The first part of the names of its files. The kernel works in another folder than Sphinx.
    ip = Unicode(f"{_sockets}/kernel")


# MyST-NB has no setting for it. nbclient looks the class up by this name when it starts a kernel.
jupyter_client.AsyncKernelManager = KernelOverIpc

html_theme = "furo"
html_title = f"hpcbench {version}"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
python_use_unqualified_type_names = True
