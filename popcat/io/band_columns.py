"""Which columns of a catalogue are fluxes or magnitudes, of which band, by their names.

A column counts if another is its error: `HSC_g_FLUX_AUTO` and `HSC_g_FLUXERR_AUTO`. Its name is taken apart into words,
and each word says what it can: the band, the facility, flux or magnitude, how the light was measured. All columns of a
band are kept, the one with all of the light first.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from popcat.io.chunks import Field
from popcat.io.conventions import Catalogue, Facility, conventions, named
from popcat.io.stated_units import spelled_unit

_VECTORS = {5: tuple("ugriz"), 7: ("FUV", "NUV", *"ugriz")}
"""Bands of a vector column of fluxes, by its length."""
_NUMBERS = ("integer", "float")
_NO_BANDS = "xyz"
"""Words that also name positions and redshifts: alone they are no photometry."""
_SHORT = 3
"""Letters of a band's word, up to which it may mean something else: f444w means one thing."""


@dataclass(frozen=True)
class FluxColumn:
    """A column of fluxes or magnitudes with its error; `rank` sorts those of one band, the best first."""

    name: str
    error: str
    field: Field
    band: str
    facility: Facility | None = None
    facility_word: str = ""
    quantity: str | None = None
    """"flux" or "magnitude", None where the name does not say."""
    extra: tuple[str, ...] = ()
    """Words of the name that mean nothing here: they tell bands apart."""
    rank: tuple[int, ...] = ()

    @property
    def is_ivar(self) -> bool:
        """Whether the error is an inverse variance."""
        return "ivar" in self.error.lower()

    @property
    def facility_name(self) -> str:
        """What tells the facility from others: its name, or the word for one of which nothing is known."""
        return (self.facility.name if self.facility else "") or self.facility_word

    @property
    def filter(self) -> str | None:
        """The filter curve of the facility's band."""
        return self.facility.filters.get(self.band) if self.facility else None


@dataclass(frozen=True)
class BandColumns:
    """A band under a name of its own, its best column, and the others."""

    name: str
    best: FluxColumn
    others: tuple[FluxColumn, ...]


def find_bands(
    fields: Mapping[str, Field], catalogue: Catalogue | None = None, facility: Facility | None = None
) -> list[BandColumns]:
    """The bands of a catalogue in the order of their wavelengths; `facility` is the one that the file's header names.

    >>> found = find_bands({name: Field("float") for name in ("z_err", "g", "z", "r", "r_err", "g_err")})
    >>> [(band.name, band.best.error) for band in found]
    [('g', 'g_err'), ('r', 'r_err'), ('z', 'z_err')]
    """
    pairs = error_pairs(fields)
    found = [one for value, error in pairs.items() for one in _read(value, error, fields[value], catalogue, facility)]
    found = _without_bare(found)
    if not found and catalogue is not None and catalogue.by_position:
        found = list(_by_position(fields))
    groups: dict[tuple, list[FluxColumn]] = {}
    for order, column in enumerate(found):
        column = replace(column, rank=(*column.rank, order))
        groups.setdefault((column.facility_name, column.band, column.extra), []).append(column)
    sorted_groups = [sorted(columns, key=lambda one: one.rank) for columns in _joined(groups).values()]
    return _named(sorted(sorted_groups, key=lambda columns: wavelength(columns[0].band)))


def error_pairs(fields: Mapping[str, Field]) -> dict[str, str]:
    """Columns of numbers that have an error, with its name.

    >>> error_pairs({name: Field("float") for name in ("w1sigmpro", "w1mpro", "F_G", "EF_G", "ra")})
    {'w1mpro': 'w1sigmpro', 'F_G': 'EF_G'}
    """
    numeric = {name: field for name, field in fields.items() if (field.element or field.kind) in _NUMBERS}
    by_bare = {bare: name for form in (_bare, _same_case) for name in reversed(numeric) if (bare := form(name))}
    pairs: dict[str, str] = {}
    for error in numeric:
        value = _value_of(error, by_bare)
        if value is not None and _length(fields[value]) == _length(fields[error]):
            pairs.setdefault(value, error)
    return pairs


def wavelength(band: str) -> float:
    """Nominal wavelength of a band in Angstrom, by which bands are sorted; infinite where it is unknown.

    >>> wavelength("IB427"), wavelength("f444w"), wavelength("Ks") > wavelength("J")
    (4270.0, 44400.0, True)
    """
    table = conventions().bands
    if band in table:
        return table[band]
    for one in conventions().numbered:
        if match := re.fullmatch(one.name, band, re.I):
            return float(match[1]) * one.scale
    return float("inf")


def _value_of(error: str, by_bare: Mapping[str, str]) -> str | None:
    """The column whose error this is."""
    for rule in conventions().errors:
        if match := re.fullmatch(rule.error, error, re.I):
            texts = [match.expand(value) for value in rule.values]  # in this case of the letters first: z is not Z
            values = (by_bare.get(form(text)) for form in (_same_case, _bare) for text in texts)
            found = next((value for value in values if value is not None and value != error), None)
            if found is not None:
                return found
    return None


def _bare(name: str) -> str:
    return _same_case(name).lower()


def _same_case(name: str) -> str:
    return name.replace("_", "")


def _length(field: Field) -> str:
    return field.kind.partition(" of ")[2] if field.element else ""


def _read(value: str, error: str, field: Field, catalogue, header_facility) -> Iterator[FluxColumn]:
    """What the name of a column says; nothing where it is no photometry. A vector is a column a band."""
    words = _words(value)
    lower = [word.lower() for word in words]
    table = conventions().words
    if set(lower) & set(table["foreign"]):
        return
    column = _classified(FluxColumn(value, error, field, ""), words, catalogue)
    if field.element is not None:
        if column.quantity is None or not _length(field).isdigit():
            return
        length = int(_length(field))
        for index, band in enumerate(_VECTORS.get(length, [f"b{index}" for index in range(length)])):
            element = replace(column, name=f"{value}[{index}]", error=f"{error}[{index}]", band=band)
            yield _of_facility(element, catalogue, header_facility)
    elif column.band or column.quantity == "flux" or column.quantity == "magnitude":
        yield _of_facility(column, catalogue, header_facility)


def _words(name: str) -> list[str]:
    for one in conventions().apart:
        if match := re.fullmatch(one.name, name, re.I):
            name = match.expand(one.parts)
    return [word for word in re.split(r"[^A-Za-z0-9]+|(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", name) if word]


def _classified(column: FluxColumn, words: list[str], catalogue: Catalogue | None) -> FluxColumn:
    """The column with what each word of its name says."""
    table = conventions().words
    measured, variants, extra, bands = "", 0, [], []
    for word in words:
        lower, stem = word.lower(), word.lower().strip("0123456789")
        quantity, glued = (None, "") if _is_numbered(word) else _quantity(lower, stem)  # f087 is no flux
        if quantity and column.quantity in (None, quantity):  # g_psfflux_flux says it twice
            column = replace(column, quantity=quantity)
            measured = lower if lower in table["measured"] else glued or measured
        elif facility := _facility(lower):
            column = replace(column, facility=facility, facility_word=lower)
        elif _is_band(word):
            bands.append(word)
        elif stem in table["measured"] or lower in table["measured"]:
            measured = measured or (lower if lower in table["measured"] else stem)
        elif stem in table["variants"] or lower in table["variants"]:
            variants += 1
        elif stem and lower not in table["noise"]:
            extra.append(lower)
    band = max(bands, key=len, default="")
    extra += [word.lower() for word in bands if word != band]
    is_late = catalogue is not None and bool(catalogue.corrected) and not catalogue.is_corrected(column.name)
    rank = (is_late, table["measured"].index(measured), variants, _preference(column, catalogue))
    return replace(column, band=band, extra=tuple(extra), rank=rank)


def _quantity(word: str, stem: str) -> tuple[str | None, str]:
    """Flux or magnitude, where a word says so, and how it was measured where that runs into it: "petromag"."""
    table = conventions().words
    for quantity in ("flux", "magnitude"):
        if word in table[quantity] or stem in table[quantity]:
            return quantity, ""
        for ending in table[quantity]:
            if len(ending) > 2 and stem.endswith(ending) and stem.removesuffix(ending) in table["measured"]:
                return quantity, stem.removesuffix(ending)
    return None, ""


def _preference(column: FluxColumn, catalogue: Catalogue | None) -> int:
    """Fluxes keep what is negative, so they come first, but only where their unit is known."""
    if catalogue is not None and catalogue.prefer == column.quantity:
        return 0
    known = bool(column.field.unit and spelled_unit(column.field.unit)) or (
        catalogue is not None and (catalogue.unit or catalogue.zero_point) is not None)  # fmt: skip
    return 2 if column.quantity == "flux" and not known else 1


def _facility(word: str) -> Facility | None:
    return next((one for one in conventions().facilities.values() if word in one.words), None)


def _is_band(word: str) -> bool:
    return word.lower() in {band.lower() for band in conventions().bands} or _is_numbered(word)


def _is_numbered(word: str) -> bool:
    return any(named(one.name, word) for one in conventions().numbered)


def _of_facility(column: FluxColumn, catalogue: Catalogue | None, header_facility: Facility | None) -> FluxColumn:
    """The column with its facility, and the facility's name of its band."""
    if not column.band:
        return replace(column, band=re.sub(r"[^A-Za-z0-9]", "", "".join(column.extra)) or "band", extra=())
    facilities = conventions().facilities
    likely = [facilities[name] for name in catalogue.facilities] if catalogue else []
    choices = [column.facility] if column.facility else [*likely, _implied(column.band), header_facility]
    owns = [(one, own) for one in choices if one is not None and (own := one.band(column.band))]
    for one, own in sorted(owns, key=lambda choice: choice[1] != column.band):  # Z of VISTA is not z of SDSS
        return replace(column, facility=one, band=own)
    return replace(column, band=_usual(column.band))


def _implied(band: str) -> Facility | None:
    """The facility that alone has bands of such a name."""
    facilities = conventions().facilities
    for one in conventions().numbered:
        if one.facility and named(one.name, band):
            return facilities[one.facility]
    return next((one for one in facilities.values() if any(named(word, band) for word in one.implied)), None)


def _usual(band: str) -> str:
    """The usual spelling of a band: its own, where there is such a band."""
    table = conventions().bands
    return band if band in table else next((name for name in table if name.lower() == band.lower()), band)


def _without_bare(found: list[FluxColumn]) -> list[FluxColumn]:
    """Columns without those, such as r and r_err, that no word calls photometry and too few of a kind do."""
    kinds: dict[tuple, set[str]] = {}
    for one in found:
        if one.quantity is None and one.band.lower() not in _NO_BANDS:
            kinds.setdefault(one.extra, set()).add(one.band)
    return [one for one in found if one.quantity is not None or one.facility_word or len(one.band) > _SHORT
            or len(kinds.get(one.extra, ())) > 1]  # fmt: skip


def _by_position(fields: Mapping[str, Field]) -> Iterator[FluxColumn]:
    """LePHARE's order: an identifier, values and errors in turn, the context."""
    names = list(fields)
    between = names[1 : [name.lower() for name in names].index("context")]
    if len(between) % 2 or any(fields[name].kind not in _NUMBERS for name in between):
        return
    for value, error in zip(between[::2], between[1::2], strict=True):
        band = re.sub(r"[^A-Za-z0-9]", "", value)
        yield FluxColumn(value, error, fields[value], band if band[:1].isalpha() else f"b{band}", rank=(0,))


def _joined(groups: dict[tuple, list[FluxColumn]]) -> dict[tuple, list[FluxColumn]]:
    """Groups without the words that all of them share."""
    common = set.intersection(*(set(extra) for _, _, extra in groups)) if groups else set()
    joined: dict[tuple, list[FluxColumn]] = {}
    for (facility, band, extra), columns in groups.items():
        key = (facility, band, tuple(word for word in extra if word not in common))
        joined.setdefault(key, []).extend(replace(one, extra=key[2]) for one in columns)
    return joined


def _named(groups: list[list[FluxColumn]]) -> list[BandColumns]:
    """Each band under a name that no other has in any case of the letters: survey files ask for that."""
    plain = [columns[0].band.lower() for columns in groups]
    found, taken = [], set()
    for columns in groups:
        best = columns[0]
        name = best.band
        if plain.count(name.lower()) > 1:
            name = (best.facility_word or "".join(best.extra)) + name
        name = name if name[:1].isalpha() else f"b{name}"
        while name.lower() in taken:
            name += "2"
        taken.add(name.lower())
        found.append(BandColumns(name, best, tuple(columns[1:])))
    return found
