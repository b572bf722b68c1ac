"""What a catalogue's fluxes and magnitudes are in: what the file states, else what its kind of catalogue documents.

Only what a file states is stated. Everything else is said to be checked, with the reason for the guess.
"""

import re
from dataclasses import dataclass

import numpy as np

from popcat.io.band_columns import FluxColumn
from popcat.io.conventions import Catalogue, embedded_band
from popcat.io.sampled_values import Sample, looks_like_magnitudes
from popcat.io.stated_units import parsed_unit, spelled_unit
from popcat.units import AB_FNU, AB_ZERO_NMGY

_CGS_TO_JY = 3631.0 / AB_FNU
_CGS = 1e-20
"""Fluxes of galaxies are below this in erg/s/cm2/Hz, and above it in any other unit."""

_OFTEN_VEGA = ("U", "B", "V", "R", "I", "Y", "J", "H", "Ks", "K")


@dataclass(frozen=True)
class Scale:
    """Unit of a band's columns for a survey file, and why; `factor` takes the columns to that unit."""

    unit: str
    why: str
    factor: float = 1.0
    ab_offset_mag: float = 0.0
    offset_why: str = ""
    softening: float | None = None
    known: bool = True
    """Whether anything but a habit of popcat's says so."""

    @property
    def stated(self) -> bool:
        return not self.why.startswith("CHECK")


def scale_of(column: FluxColumn, catalogue: Catalogue | None, sample: Sample) -> Scale:
    """What a column is in."""
    stated = (column.field.unit or "").strip()
    spelled = spelled_unit(stated) if stated else None
    if spelled and spelled != "ab_mag":
        return Scale(spelled, "stated by the file")
    if re.search(r"st", stated, re.I) and re.search(r"mag", stated, re.I):
        return Scale("ab_mag", f'CHECK: the file states "{stated}", which is not AB', known=False)
    if spelled or (stated and "mag" in stated.lower()) or _is_magnitude(column, sample):
        return _magnitudes(column, catalogue, stated)
    if stated and (factor := _in_jy(stated)):
        return Scale("Jy", f'stated by the file, as "{stated}"', factor=factor)
    unread = f'; the file states "{stated}", which popcat cannot read' if stated else ""
    return _fluxes(column, catalogue, sample, unread)


def _is_magnitude(column: FluxColumn, sample: Sample) -> bool:
    if column.quantity is not None:
        return column.quantity == "magnitude"
    return looks_like_magnitudes(sample.numbers(column.name))


def _magnitudes(column: FluxColumn, catalogue: Catalogue | None, stated: str) -> Scale:
    facility = column.facility
    if re.search(r"ab", stated, re.I):
        return Scale("ab_mag", "stated by the file")
    system = _system(column, catalogue, stated)
    if system == "vega":
        return _vega(column)
    documents = f"CHECK: {catalogue.name if catalogue else ''} documents"
    like = embedded_band(column.filter or "", catalogue.like) if catalogue else None
    if system == "asinh" and like is not None and like.softening:
        return Scale("asinh_mag", f"{documents} asinh magnitudes; the file does not state it", softening=like.softening)
    if system == "ab":
        return Scale("ab_mag", f"{documents} AB magnitudes; the file does not state it")
    said = f'the file states "{stated}" alone' if stated else "the file does not state it"
    often = "; magnitudes in this band are often Vega" if facility is None and column.band in _OFTEN_VEGA else ""
    return Scale("ab_mag", f"CHECK: AB is a guess, {said}{often}", known=False)


def _system(column: FluxColumn, catalogue: Catalogue | None, stated: str) -> str | None:
    """The kind of magnitudes, by the file, the catalogue, or the facility, in this order; None where nobody says."""
    if "vega" in stated.lower() or "vega" in column.name.lower():
        return "vega"
    if catalogue is not None and catalogue.magnitudes and catalogue.has(column.facility):
        return catalogue.magnitudes
    return "vega" if column.facility is not None and column.facility.vega else None


def _vega(column: FluxColumn) -> Scale:
    facility = column.facility
    offset = facility.vega.get(column.band) if facility is not None else None
    if facility is None or offset is None:
        return Scale("ab_mag", "CHECK: Vega magnitudes, which ab_offset_mag must take to AB", known=False,
                     offset_why="CHECK: no offset is known for this band")  # fmt: skip
    return Scale("ab_mag", "CHECK: Vega magnitudes, which ab_offset_mag takes to AB", ab_offset_mag=offset,
                 offset_why=f"CHECK: {facility.name} magnitudes are Vega ({facility.vega_source})")  # fmt: skip


def _fluxes(column: FluxColumn, catalogue: Catalogue | None, sample: Sample, unread: str) -> Scale:
    values = sample.numbers(column.name)
    typical = np.median(np.abs(values[values != 0])) if np.any(values != 0) else 1.0
    if typical < _CGS:
        return Scale("Jy", f"CHECK: values near {typical:.0e} are taken for erg/s/cm2/Hz{unread}", factor=_CGS_TO_JY)
    if catalogue is not None and not catalogue.has(column.facility):
        catalogue = None
    if catalogue is not None and catalogue.unit:
        return Scale(catalogue.unit, f"CHECK: {catalogue.name} documents {catalogue.unit}"
                                     f"{unread or '; the file states none'}")  # fmt: skip
    if catalogue is not None and catalogue.zero_point is not None:
        zero = catalogue.zero_point
        return Scale("nMgy", f"CHECK: a flux of 1 is AB magnitude {zero:g} in {catalogue.name}{unread}",
                     ab_offset_mag=zero - AB_ZERO_NMGY,
                     offset_why=f"CHECK: the AB zero point, {zero:g}, less 22.5")  # fmt: skip
    return Scale("nMgy", f"CHECK: nMgy is a guess{unread or '; the file states no unit'}", known=False)


def _in_jy(text: str) -> float | None:
    """What takes a unit, such as erg/s/cm2/Hz, to Jy; None for others."""
    from astropy import units

    parsed = parsed_unit(text)
    return float(parsed.to(units.Jy)) if parsed is not None and parsed.is_equivalent(units.Jy) else None
