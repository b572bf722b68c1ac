"""A first survey file for a catalogue: `draft_survey`.

Names say which columns are what (popcat.io.band_columns, with the table popcat/data/conventions.toml), the header and
the names say which survey's they are, a sample of the values says in which ranges. What the file itself does not state
is marked CHECK.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from popcat.display import listed
from popcat.errors import PopcatError
from popcat.expressions import base_name, quoted_name, sources_of
from popcat.files import write_bytes_atomic
from popcat.io.band_columns import BandColumns, FluxColumn, find_bands
from popcat.io.chunks import Field
from popcat.io.conventions import (
    conventions,
    ebv_coefficient,
    embedded_band,
    embedded_like,
    facility_of,
    header_of,
    named,
    recognise,
)
from popcat.io.key_columns import choose_id, choose_position, choose_redshift
from popcat.io.sampled_values import (
    SAMPLE_ROWS,
    Magnitudes,
    Sample,
    limit_mark,
    magnitudes,
    magnitudes_by_unit,
    missing_marks,
    redshift_range,
)
from popcat.io.scales import Scale, scale_of
from popcat.io.sources import plan_chunks, read_fields
from popcat.paths import output_path
from popcat.survey import Band, Columns, Selection, Survey, load_survey

_ERROR_FLOOR = 0.02
_REFERENCE = ("r", "i", "f160w", "VIS", "Ks", "K")
"""The band of the selection: the first of these that there is."""
_LISTED = 12


def draft_survey(source: str | Path, *, output: str | Path | None = None, name: str = "my_survey") -> str:
    """The text of a survey file, with comments, for a catalogue: names and units from its header, guesses marked CHECK.

    The columns of the usual public catalogues are recognised. With `output` it is written to that file, which must not
    exist.

    Raises PopcatError if the file is unreadable or no column looks like a flux with its error.

    >>> draft = draft_survey("galaxies.parquet", name="mine")
    >>> [line for line in draft.splitlines() if line.startswith("object_id")]
    ['object_id = "object_id"']
    """
    if output is not None and output_path(output).exists():
        raise PopcatError(f"{output} is there already: name another file")
    text = _Draft(source, name).text()
    if output is not None:
        write_bytes_atomic(output, text.encode())
    return text


@dataclass(frozen=True)
class _DraftBand:
    """A band as a survey file has it, and the comments beside its lines."""

    band: Band
    columns: BandColumns
    scale: Scale
    filter_why: str
    dust_why: str


class _Draft:
    """Everything that is found out about a catalogue, in the order in which it is needed."""

    def __init__(self, source: str | Path, name: str):
        chunks = plan_chunks(source, rows_per_partition=SAMPLE_ROWS)
        self.file, self.name = Path(source).name, name
        self.fields = read_fields(chunks[0])
        header = header_of(chunks[0].path)
        self.catalogue = recognise(self.fields, header)
        self.sample = Sample(chunks)
        found = find_bands(self.fields, self.catalogue, facility_of(header))
        if not found:
            names = ", ".join(list(self.fields)[:40])
            raise PopcatError(f"{source}: no pair of columns looks like a flux and its error, such as flux_r and "
                              f"flux_err_r; write the survey file by hand. Columns: {names}")
        self.sample.frame(name for one in found for name in (one.best.name, one.best.error))  # read at once
        scales = self._scales([columns.best for columns in found])
        self.bands = [self._band(columns, scale) for columns, scale in zip(found, scales, strict=True)]
        self.object_id = choose_id(self.fields, self.catalogue, self.sample)
        self.positions = {key: choose_position(key, self.fields) for key in ("ra", "dec")}
        self.redshift, self.redshift_err = choose_redshift(self.fields, found, self.catalogue, self.sample)
        self.unit = self._most([one.scale.unit for one in self.bands])
        self.limits = limit_mark(self.sample, [(one.columns.best.name, one.columns.best.error) for one in self.bands
                                               if one.scale.unit == "ab_mag"])  # fmt: skip
        self.missing = self._missing()
        self.quality = self._quality()

    def _scales(self, columns: list[FluxColumn]) -> list[Scale]:
        """What each column is in; where one has no values to judge by, what the others are in."""
        scales = [scale_of(column, self.catalogue, self.sample) for column in columns]
        empty = [not scale.known and not len(self.sample.numbers(column.name))
                 for scale, column in zip(scales, columns, strict=True)]  # fmt: skip
        judged = [scale for scale, blank in zip(scales, empty, strict=True) if not blank and not scale.ab_offset_mag]
        return [judged[0] if blank and judged else scale for scale, blank in zip(scales, empty, strict=True)]

    def _band(self, columns: BandColumns, scale: Scale) -> _DraftBand:
        best, catalogue = columns.best, self.catalogue
        cut = embedded_band(best.filter or "", None)
        own = embedded_band(best.filter or "", catalogue.like) if catalogue and catalogue.like else None
        offset = scale.ab_offset_mag or (own.ab_offset_mag if own else 0.0)
        extinction, factor, dust_why = self._dust(best, columns.name)
        band = Band(
            name=columns.name, filter=best.filter or "CHECK", wave_range_aa=cut.wave_range_aa if cut else None,
            unit=scale.unit, softening=scale.softening, flux=_scaled(best.name, scale.factor),
            flux_err=None if best.is_ivar else _scaled(best.error, scale.factor),
            flux_ivar=_scaled(best.error, scale.factor, ivar=True) if best.is_ivar else None,
            extinction=extinction, extinction_factor=factor, ab_offset_mag=round(offset, 4),
            error_floor=own.error_floor if own else _ERROR_FLOOR,
        )  # fmt: skip
        return _DraftBand(band, columns, scale, _filter_why(best), dust_why)

    def _dust(self, column: FluxColumn, name: str) -> tuple[str | None, float, str]:
        """Column and factor of the Galactic extinction of a band, and what to check; a comment alone where unsure."""
        if self.catalogue is not None and self.catalogue.is_corrected(column.name):
            return None, 1.0, ""
        own = _extinction_column(column, name, self.fields)
        if own:
            return own, 1.0, "CHECK that the fluxes are not corrected for it yet"
        ebv = next((one for pattern in conventions().columns["ebv"] for one, field in self.fields.items()
                    if named(pattern, one) and field.kind == "float"), None)  # fmt: skip
        if ebv is None:
            return None, 1.0, ""
        factor = ebv_coefficient(column.facility, column.band, column.filter or "")
        if factor is None:
            return None, 1.0, (f"CHECK: no extinction_factor is known here, A / E(B-V) of this filter; with it, "
                               f'extinction = "{ebv}"')  # fmt: skip
        return ebv, factor, "CHECK that the fluxes are not corrected for it yet"

    def _missing(self) -> list[float]:
        keys = [choice.column for choice in (self.redshift, self.redshift_err) if choice.column]
        best = [one.columns.best for one in self.bands]
        others = [*(one.error for one in best), *keys]
        of_limits = set() if self.limits is None else {self.limits.mark} - {*missing_marks(self.sample, [], others)}
        found = missing_marks(self.sample, [one.name for one in best], others)
        return [mark for mark in found if mark not in of_limits]

    def _quality(self) -> str:
        suggested = self.catalogue.quality if self.catalogue else None
        if suggested is None or not set(suggested.needs) <= set(self.fields):
            return "quality = []"
        return f"quality = [{_quoted(suggested.text)}]  # CHECK: {suggested.why}"

    @staticmethod
    def _most(units: Iterable[str]) -> str:
        """The unit of most bands; count rates are a band's own unit alone."""
        units = [unit for unit in units if unit != "count/s"] or ["nMgy"]
        return max(dict.fromkeys(units), key=units.count)

    def survey(self) -> Survey:
        """The draft as popcat reads it, but for its ranges."""
        return Survey(name="draft", unit=self.unit, redshift_range=(0.001, 1.0), columns=Columns(),
                      limit_mark=None if self.limits is None else self.limits.mark,
                      missing_values=tuple(self.missing), bands=tuple(one.band for one in self.bands),
                      selection=Selection(band=self.bands[0].band.name, bright_mag=8.0, faint_mag=22.0))  # fmt: skip

    def text(self) -> str:
        found = magnitudes(self.sample, self.survey())
        reference = self._reference(found)
        listing = "\n".join(f"#   {column:28s} {field.kind}{f', {field.unit}' if field.unit else ''}"
                            for column, field in self.fields.items())  # fmt: skip
        return _TEMPLATE.format(
            file=self.file, about=self._about(), name=self.name, unit=self.unit, unit_why=self._unit_why(),
            sizes=self._sizes(reference),
            redshift_range=self._redshift_range(), quality=self.quality, missing=self.missing,
            missing_why="  # CHECK: they repeat in the columns below" if self.missing else "",
            limits="" if self.limits is None else self.limits.settings, keys=self._keys(),
            selection=_selection(reference, found.get(reference)), listing=listing,
            bands="\n".join(_band_text(one, self.unit) for one in self.bands),
        )  # fmt: skip

    def _about(self) -> str:
        lines = []
        if self.catalogue is not None:
            lines.append(f"# The columns look like those of {self.catalogue.name}: its documentation says more.")
            if self.catalogue.dust:
                lines.append(f"# Galactic extinction: {self.catalogue.dust}, by its documentation.")
            if self.catalogue.note:
                lines.append(f"# Note: {self.catalogue.note}.")
        if like := embedded_like(self.fields):
            lacks = f" It also wants {', '.join(like[1])}, which the file lacks." if like[1] else ""
            own = {base_name(one.columns.best.name) for one in self.bands}
            sources = (source for band in load_survey(like[0]).bands for source in sources_of(band.flux, ()))
            fluxes = dict.fromkeys(map(base_name, sources))
            reads = "has these flux columns" if set(fluxes) <= own else f"reads {listed(list(fluxes))} of this file"
            lines.append(f'# The embedded survey "{like[0]}" {reads}.{lacks}')
        return "".join(f"{line}\n" for line in lines)

    def _reference(self, found: dict[str, Magnitudes]) -> str:
        names = [one.band.name for one in self.bands]
        seen = {name: found[name].detected for name in names if name in found}
        usual = next((name for name in _REFERENCE if name in names), None)
        return usual or max(seen, key=lambda name: seen[name], default=names[len(names) // 2])

    def _unit_why(self) -> str:
        scales = [one.scale for one in self.bands if one.scale.unit == self.unit]
        unsure = [one for one in scales if not one.stated]
        return [*unsure, *scales, Scale(self.unit, "CHECK")][0].why

    def _sizes(self, reference: str) -> str:
        """What the median galaxy would be in each unit, where nothing says which it is."""
        band = next(one for one in self.bands if one.band.name == reference)
        if band.scale.known or band.scale.unit != "nMgy":
            return ""
        sizes = magnitudes_by_unit(self.sample.numbers(band.columns.best.name))
        listed = ", ".join(f"{mag:g} in {unit}" for unit, mag in sizes.items())
        return f"# The median AB magnitude in {reference} would be {listed}.\n" if sizes else ""

    def _redshift_range(self) -> str:
        found = redshift_range(self.sample.numbers(self.redshift.column)) if self.redshift.column else None
        if found is None:
            return "[0.001, 1.0]  # CHECK: the file has no redshifts"
        return f"[{found[0]:g}, {found[1]:g}]  # CHECK: 99% of the redshifts of the file"

    def _keys(self) -> str:
        lines = [self.object_id.line("object_id"), *(self.positions[key].line(key) for key in ("ra", "dec")),
                 self.redshift.line("redshift")]
        err = self.redshift_err
        return "\n".join([*lines, err.line("redshift_err") if err.column else f"# redshift_err = {_quoted('')}"])


def _extinction_column(column: FluxColumn, name: str, fields: dict[str, Field]) -> str | None:
    """The column, element or expression that is the extinction of one band in magnitudes."""
    vector, _, element = column.name.partition("[")
    words = {column.band.lower(), name.lower()}
    for one, field in fields.items():
        lower = one.lower()
        if element and lower == "extinction" and field.kind == column.field.kind and vector in fields:
            return f"{one}[{element}"
        if lower in {f"{form}_{word}" for form in ("extinction", "a", "ext") for word in words}:
            return one
        if lower in {f"mw_transmission_{word}" for word in words}:
            return f"-2.5 * log10({quoted_name(one)})"
    return None


def _scaled(name: str, factor: float, *, ivar: bool = False) -> str:
    """A column times a factor, as an expression; the column itself for a factor of 1."""
    if factor == 1.0:
        return name
    return f"{quoted_name(name)} / {factor**2:g}" if ivar else f"{factor:g} * {quoted_name(name)}"


def _filter_why(column: FluxColumn) -> str:
    facility = column.facility
    if facility is not None and column.filter:
        note = f", {facility.notes[column.band]}" if column.band in facility.notes else ""
        return f"CHECK that it is the survey's own: {facility.name} by the names{note}"
    known = f"; {facility.note}" if facility is not None and facility.note else ""
    of = f" of {column.facility_name}" if column.facility_name else ""
    return f"a name of speclite or sedpy, or a file: no curve{of} is known for this band{known}"


def _selection(band: str, found: Magnitudes | None) -> str:
    why = f"98% of the {found.detected:,} galaxies that are detected in {band}" if found else "the file says nothing"
    bright, faint = (found.bright, found.faint) if found else (8.0, 22.0)
    return f'band = "{band}"\nbright_mag = {bright:g}  # CHECK: {why}\nfaint_mag = {faint:g}  # CHECK'


def _band_text(one: _DraftBand, unit: str) -> str:
    band, scale = one.band, one.scale
    lines = ["[[bands]]", f"name = {_quoted(band.name)}", f"filter = {_quoted(band.filter)}  # {one.filter_why}"]
    if band.wave_range_aa:
        lines.append(f"wave_range_aa = {list(band.wave_range_aa)}")
    lines.append(f"flux = {_quoted(band.flux)}")
    lines += [f"{key} = {_quoted(text)}" for key in ("flux_err", "flux_ivar") if (text := getattr(band, key))]
    if band.unit != unit:
        lines.append(f"unit = {_quoted(band.unit)}  # {scale.why}")
    if band.softening:
        lines.append(f"softening = {band.softening:g}")
    if band.ab_offset_mag or scale.offset_why:
        why = scale.offset_why or f"CHECK: {one.columns.best.facility_name} to AB, as in popcat's own survey"
        lines.append(f"ab_offset_mag = {band.ab_offset_mag:g}  # {why}")
    if band.extinction:
        lines.append(f"extinction = {_quoted(band.extinction)}  # {one.dust_why}")
        lines += [f"extinction_factor = {band.extinction_factor:g}"] if band.extinction_factor != 1.0 else []
    elif one.dust_why:
        lines.append(f"# {one.dust_why}")
    lines.append(f"error_floor = {band.error_floor:g}")
    others = [other.name for other in one.columns.others]
    if others:
        lines.append(f"# Other columns of this band: {listed(others, _LISTED)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str | None) -> str:
    return json.dumps(text or "", ensure_ascii=False)


_TEMPLATE = """\
# A survey file for {file}, written by `popcat survey draft`. Look at every line marked CHECK, then run
#   popcat survey check {file} --survey THIS_FILE
{about}
name = "{name}"
description = ""
# nMgy, nJy, uJy, mJy, Jy, ab_mag, or asinh_mag (which needs `softening` in every band).
{sizes}unit = "{unit}"  # {unit_why}
redshift_range = {redshift_range}
# Conditions on columns. Rows that fail are flagged, not dropped: quality = ["sdss_clean(flags)", "NQ >= 3"]
{quality}
# Numbers that stand for "not observed", such as -99.0
missing_values = {missing}{missing_why}
{limits}
# A column is a name, one element of a vector ("NMGY[2]"), or an expression ("RELEASE << 42 | BRICKID << 22 | OBJID").
[columns]
{keys}

# Magnitudes (AB, extinction removed) of the galaxies that a model is trained on.
[selection]
{selection}

# In each band, where they apply:
#   extinction = "EXTINCTION_r"    column in magnitudes; or E(B-V) with extinction_factor = 2.751; leave out if removed
#   ab_offset_mag = 0.0            added to the survey's magnitudes to reach AB
#   error_floor = 0.02             fraction of the flux, added in quadrature
#   softening = 1.2e-10            b of asinh magnitudes

{bands}
# Columns of the file:
{listing}
"""
