"""A survey, or other settings, as the text of a TOML file."""

import json
from collections.abc import Iterator, Mapping, Sequence

from popcat.settings import Settings
from popcat.survey import Survey


def survey_text(survey: Survey, head: Sequence[str] = (), comments: Mapping[str, Sequence[str]] | None = None) -> str:
    """The survey file of a survey: what is not a default, with comment lines at its head and in bands by name.

    >>> from popcat.settings import parse_toml
    >>> from popcat.survey import load_survey
    >>> text = survey_text(load_survey("sdss"), ["ugriz"], {"u": ["the bluest"]})
    >>> text.splitlines()[0], text.splitlines().index("# the bluest") > 0
    ('# ugriz', True)
    """
    written = survey.model_dump(mode="json", exclude_defaults=True)
    lines = [f"# {line}" for line in head]
    tables = {key: written.pop(key) for key in list(written) if isinstance(written[key], dict)}
    arrays = {key: written.pop(key) for key in ("bands", "absolute_magnitudes") if key in written}
    lines += _pairs(written)
    for key, table in tables.items():
        lines += ["", f"[{key}]", *_pairs(table)]
    for key, entries in arrays.items():
        for entry in entries:
            said = (comments or {}).get(entry["name"], ()) if key == "bands" else ()
            lines += ["", *(f"# {line}" for line in said), f"[[{key}]]", *_pairs(entry)]
    return "\n".join([*lines, ""])


def settings_text(settings: Settings, head: Sequence[str] = ()) -> str:
    """The TOML file of settings: what is not a default, with comment lines at its head.

    >>> from popcat.galaxy_model import GalaxyModel
    >>> settings_text(GalaxyModel(igm="none"), ["no medium"]).splitlines()
    ['# no medium', 'igm = "none"']
    """
    fields = type(settings).model_fields
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    written = {name: getattr(settings, name) for name in fields if getattr(settings, name) != defaults[name]}
    plain = json.loads(json.dumps(written, default=lambda one: one.model_dump(mode="json", exclude_none=True)))
    return "\n".join([*(f"# {line}" for line in head), *_lines(plain), ""])


def _lines(table: Mapping, path: tuple[str, ...] = ()) -> Iterator[str]:
    """A table, and those in it after its own keys."""
    own = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if own and path:
        yield f"[{'.'.join(path)}]"
    yield from _pairs(own)
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*path, key))


def _pairs(table: Mapping) -> list[str]:
    """Lines of keys and values. A curve is of libraries and posteriors, and not of survey files."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()
            if value is not None and key != "curve"]  # fmt: skip
