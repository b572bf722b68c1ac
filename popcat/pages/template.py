"""What popcat's HTML pages share: one template that each extends, one style sheet, one policy, one way to write them.

A page is one file: styles, scripts, figures and numbers stand inside it, and its content security policy lets it fetch
nothing. A script runs if its hash is in the policy, so that no text of a catalogue can become one. Templates escape
every value and refuse names that they were not given.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from popcat import __version__
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic
from popcat.paths import AnyPath, path_of

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'"
_LONGEST = 120
"""Characters of a value in the table of provenance."""


def write_page(template: str, output: str | Path, *, scripts: Sequence[str] = (), **values) -> Path:
    """Write a page from a template of popcat/data/pages, whole or not at all, and return its path.

    scripts : file names in popcat/data/pages, in the order in which they run. values : what the template names;
    `base.html.j2` says which of them every page needs.

    Raises PopcatError if the disk refuses.
    """
    output = path_of(output)
    sources = [Markup(_resource(name)) for name in scripts]
    page = _environment().get_template(template).render(
        policy=Markup(content_policy(sources)), style=Markup(_resource("style.css")), sources=sources,
        version=__version__, **values,
    )  # fmt: skip
    _make_folder(output.absolute().parent)
    write_bytes_atomic(output.absolute(), page.encode("utf-8"))
    return output


def content_policy(scripts: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of a page that runs these scripts and no other.

    >>> content_policy().split("; ")[0], "script-src" in content_policy()
    ("default-src 'none'", False)
    """
    digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in scripts]
    hashes = [f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests]
    return "; script-src ".join([_POLICY, *([" ".join(hashes)] if hashes else [])])


def as_json(value) -> Markup:
    """Compact JSON that may stand inside a <script> element.

    >>> print(as_json({"id": "</script>"}))
    {"id":"\\u003c/script>"}
    """
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def flattened(value, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and short values of a JSON object, for the table of provenance.

    >>> list(flattened({"fit": {"seed": 1, "bands": ["g", "r"], "parts": [{}, {}]}}))
    [('fit.seed', '1'), ('fit.bands', 'g, r'), ('fit.parts', '2 entries')]
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flattened(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and (len(value) > 6 or any(isinstance(item, (dict, list)) for item in value)):
        yield prefix, f"{len(value):,} entries"
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield prefix, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.PackageLoader("popcat", "data/pages"), autoescape=True,
                              undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # fmt: skip


@cache
def _resource(name: str) -> str:
    """A style sheet or script as it stands."""
    return (files("popcat") / "data" / "pages" / name).read_text(encoding="utf-8")


def _make_folder(path: AnyPath) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PopcatError(f"cannot make the folder {path}: {error}") from error
