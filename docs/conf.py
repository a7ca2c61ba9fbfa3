"""Settings of the pages: ``python -m sphinx -W --keep-going docs site`` builds them, from docstrings and Markdown."""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ["COLUMNS"] = "90"  # of the help texts

from neuroav import __version__  # noqa: E402

project = "neuroav"
author = copyright = "neuroav contributors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "extension"]
exclude_patterns = ["site"]
html_theme = "furo"
html_title = f"neuroav {release}"
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
suppress_warnings = ["ref.citation"]  # an entry that only a table of prices cites
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

myst_heading_anchors = 3
