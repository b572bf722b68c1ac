"""The documentation site: python -m sphinx -W -n -b html docs build/docs (`make docs`)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402  # beside this file
from latex2mathml.converter import convert  # noqa: E402
from sphinx.util.math import get_node_equation_number  # noqa: E402

import popcat  # noqa: E402

project = "popcat"
author = "popcat developers"
copyright = "popcat developers"
version = release = popcat.__version__

extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["**/.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]  # progress bars of packages, which a page cannot show
nitpicky = True

# Tutorials are kept as text without outputs and executed whenever the site is built; a cell that fails fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 3600  # on a machine that does much else
nb_execution_in_temp = True
nb_merge_streams = True

html_theme = "furo"
html_title = "popcat"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["static"]
html_css_files = ["popcat.css"]
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _inline(writer, node) -> None:
    writer.body.append(convert(node.astext()))
    raise _skip()


def _block(writer, node) -> None:
    number = get_node_equation_number(writer, node) if node["number"] else ""
    label = f'<span class="eqno">({number})</span>' if number else ""
    writer.body.append(writer.starttag(node, "div", CLASS="math") + label + convert(node.astext(), display="block"))
    writer.body.append("</div>")
    raise _skip()


def _skip() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app) -> None:
    """Equations as MathML, which browsers show without a script; the generated pages of the reference."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    generate.write(HERE / "reference" / "generated")
