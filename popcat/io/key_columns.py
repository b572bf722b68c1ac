"""Identifier, position and redshift of a catalogue's galaxies, by the names and the values of its columns.

A column "z" is often a magnitude or a flux. It is taken as the redshift only where something says that it is one.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from popcat.expressions import quoted_name
from popcat.io.band_columns import BandColumns, error_pairs
from popcat.io.chunks import Field, is_text
from popcat.io.conventions import Catalogue, conventions, named
from popcat.io.sampled_values import Sample
from popcat.io.stated_units import degrees_per

_NUMBERS = ("integer", "float")
_SIBLINGS = "ugri"
"""Bare names of bands: beside two of them, z is a band."""
_REDSHIFTS, _MAGNITUDES = 8.0, 10.0
"""No redshift of a survey is beyond the one, and no median magnitude of its galaxies below the other."""


@dataclass(frozen=True)
class Choice:
    """A column ("" for none, or an expression), and what to check about it."""

    column: str
    why: str = ""

    def line(self, key: str) -> str:
        """The line of a survey file."""
        return f"{key} = {json.dumps(self.column, ensure_ascii=False)}" + (f"  # {self.why}" if self.why else "")


def choose_id(fields: Mapping[str, Field], catalogue: Catalogue | None, sample: Sample) -> Choice:
    """The column that identifies galaxies: whole numbers, each once, or text."""
    composite = catalogue.object_id if catalogue else None
    if composite is not None and set(composite.needs) <= set(fields):
        return Choice(composite.text, composite.why)
    found = list(_named("object_id", fields, ("integer", "float", "text")))
    whole = [name for name in found if fields[name].kind == "integer"]
    if whole:
        own = next((name for name in whole if _differ(sample, name)), None)
        return Choice(own) if own else Choice(whole[0], "CHECK: numbers repeat, and each galaxy needs its own")
    floats = [name for name in found if fields[name].kind == "float" and _whole_numbers(sample, name)]
    if floats and floats[0].isidentifier():
        return Choice(f"{floats[0]} | 0", "whole numbers that the file stores as floats")
    if texts := [name for name in found if is_text(fields[name].kind)]:
        return Choice(texts[0], "text, which popcat keeps as object_name")
    if found:
        return Choice(found[0], "CHECK: floats, and popcat needs a whole number or a text for each galaxy")
    return Choice("object_id", "CHECK: no column found")


def choose_position(key: str, fields: Mapping[str, Field]) -> Choice:
    """The column of "ra" or "dec", in degrees."""
    found = next(_named(key, fields, _NUMBERS), None)
    if found is None:
        return Choice("", "none found")
    stated = fields[found].unit or ""
    factor = degrees_per(stated)
    if factor is None:
        return Choice(found, f'CHECK: popcat reads degrees; the file states "{stated}"')
    if factor == 1.0:
        return Choice(found)
    return Choice(f"{factor:.15g} * {quoted_name(found)}", f'CHECK: to degrees; the file states "{stated}"')


def choose_redshift(
    fields: Mapping[str, Field], bands: Iterable[BandColumns], catalogue: Catalogue | None, sample: Sample
) -> tuple[Choice, Choice]:
    """The redshift, spectroscopic before photometric, and its error."""
    bands = list(bands)
    taken = {column.name for band in bands for column in (band.best, *band.others)}
    free = {name: field for name, field in fields.items() if name not in taken and not _is_no_redshift(name)}
    trusted = [name for name in (catalogue.redshift if catalogue else ()) if name in free]
    spectroscopic, photometric = (list(_named(f"redshift_{kind}", free, _NUMBERS)) for kind in ("spec", "phot"))
    bare = [name for name in ("z", "Z") if name in fields and name not in trusted]
    verdicts = {name: _bare_verdict(name, fields, bands, taken, sample) for name in bare}
    likely = [name for name, (good, _) in verdicts.items() if good]
    found = list(dict.fromkeys([*trusted, *spectroscopic, *likely, *photometric]))
    doubts = [f"{name} {why}" for name, (good, why) in verdicts.items() if not good]
    if not found:
        none = "CHECK: no column of redshifts found, so that each is inferred"
        return Choice("", "; ".join([none, *doubts])), Choice("")
    first, others = found[0], found[1:]
    error = _error_of(first, fields)
    notes = [verdicts[first][1]] if first in likely and verdicts[first][1] else []
    doubts = [] if first in spectroscopic else doubts
    notes += ["photometric, so its error belongs in redshift_err"] if first in photometric and not error.column else []
    notes += [f"other candidates: {_counted(others, sample)}"] if others else []
    why = f"CHECK: {'; '.join([*notes, *doubts])}" if notes or doubts else ""
    return Choice(first, why), error


def _bare_verdict(name: str, fields, bands: list[BandColumns], taken: set[str], sample: Sample) -> tuple[bool, str]:
    """Whether a column "z" may be the redshift, and what to check."""
    siblings = [one for one in _SIBLINGS if (one.upper() if name.isupper() else one) in fields]
    if name in taken or len(siblings) > 1:
        return False, "is a magnitude or flux"
    if fields[name].kind not in _NUMBERS:
        return False, f"is {fields[name].kind}"
    values = sample.numbers(name)
    seen = values[np.abs(values) < 90]
    if len(seen) and np.median(seen) > _REDSHIFTS:
        return False, "has values that are too large for redshifts"
    of_z = any(band.best.band.lower() == "z" for band in bands)
    optical = any(band.best.band in _SIBLINGS for band in bands)
    if _error_of(name, fields).column:
        return True, ""
    if of_z or not optical:
        return True, "z may also name a band"
    mags = [np.median(known) for band in bands if band.best.quantity == "magnitude"
            and len(known := sample.numbers(band.best.name))]  # fmt: skip
    if mags and min(mags) > _MAGNITUDES and len(seen) and seen.max() < _REDSHIFTS:
        return True, "z may also name a band; its values are those of redshifts"
    return False, f"may be the magnitude or flux of the band z: if it is the redshift, write {json.dumps(name)}"


def _error_of(name: str, fields: Mapping[str, Field]) -> Choice:
    error = error_pairs(fields).get(name)
    return Choice(error or "")


def _named(key: str, fields: Mapping[str, Field], kinds: tuple[str, ...]) -> Iterator[str]:
    """Columns whose names fit the table's patterns, in the order of the patterns."""
    seen = set()
    for pattern in conventions().columns[key]:
        for name, field in fields.items():
            usable = field.element is None and (field.kind in kinds or "text" in kinds)
            if name not in seen and usable and named(pattern, name):
                seen.add(name)
                yield name


def _is_no_redshift(name: str) -> bool:
    return any(named(pattern, name) for pattern in conventions().columns["not_redshift"])


def _counted(names: list[str], sample: Sample) -> str:
    counts = ((name, int(np.count_nonzero(sample.numbers(name) > 0))) for name in names)
    return ", ".join(f"{name} ({count:,} values)" for name, count in counts)


def _differ(sample: Sample, name: str) -> bool:
    return not sample.frame([name])[name].duplicated().any()


def _whole_numbers(sample: Sample, name: str) -> bool:
    values = sample.numbers(name)
    return bool(len(values)) and bool(np.all(values == np.trunc(values)))
