"""Settings of Sphinx for ``tools/site/build.py``."""

project = "Compiling PyTorch models with dynamic shapes"
author = "the authors of tutorial_lib"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "Dynamic shapes"
html_show_copyright = False
html_copy_source = False

nb_execution_mode = "off"
# The studio needs a kernel: where a page has none, the sentence that says so is shown in its place.
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "imported-members": True}
autodoc_typehints = "none"  # numpy docstrings say the types
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # or an attribute that is a property too would be described twice
