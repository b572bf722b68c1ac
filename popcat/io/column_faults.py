"""What is wrong with the columns of a catalogue, from its schema alone: names, kinds, units, each fault in a line."""

from collections.abc import Iterable, Iterator, Sequence

from popcat.errors import PopcatError
from popcat.expressions import base_name, quoted_name, sources_of
from popcat.io.chunks import Field, field_of, is_text
from popcat.io.photometry import catalog_columns, has_redshift_warning, missing_columns
from popcat.io.stated_units import (
    MAGNITUDES,
    base_unit,
    degrees_per,
    is_velocity,
    parsed_unit,
    remedy,
    verdict_of,
)
from popcat.io.text_values import described
from popcat.survey import Survey


def faults_of_fields(
    where: str, fields: dict[str, Field], repeated: Iterable[str], survey: Survey
) -> Iterator[str]:
    """What is wrong with the columns of a file."""
    if missing := missing_columns(fields, survey, where):
        yield missing
    names = [name for name in catalog_columns(survey, fields) if _is_there(name, fields)]
    sources = [base_name(source) for name in names for source in sources_of(name, fields)]
    if twice := repeated_columns(where, sources, repeated, survey):
        yield twice
    odd = [name for name in names if any(_odd_in(name, fields)) and not _is_of_texts(name, fields, survey)]
    yield from _odd_rows(where, odd, fields)
    yield from _wrong_kinds(where, fields, [name for name in names if name not in odd], survey)
    yield from _wrong_units(where, fields, survey)
    yield from _wrong_angles(where, fields, survey)


def repeated_columns(where: str, sources: Iterable[str], repeated: Iterable[str], survey: Survey) -> str:
    """Columns that a survey reads and that are there more than once, in a line; empty if there is none."""
    twice = sorted(set(sources) & set(repeated))
    return (f"{where} has more than one column of the name {', '.join(twice)}, which survey \"{survey.name}\" reads: "
            "expected each name once; rename or remove the others") if twice else ""  # fmt: skip


def remarks_of_fields(where: str, fields: dict[str, Field], survey: Survey) -> Iterator[str]:
    """Stated units that are not understood, and columns that a file may lack and lacks."""
    odd: dict[tuple[str, str], list[str]] = {}
    for name, stated, verdict, band in _stated(fields, survey):
        if verdict == "unknown" and band.unit is None:  # a unit of the band is an answer
            odd.setdefault((stated, survey.unit_of(band)), []).append(name)
    for (stated, unit), names in odd.items():
        yield (f'{where}: the unit "{stated}" of {", ".join(names)} is not understood, taken as {unit}; say the unit '
               f'in the survey file, in each band: unit = "{unit}", or what it is')
    for name, stated in _stated_angles(fields, survey):
        if degrees_per(stated) is None and parsed_unit(stated) is None:
            yield f'{where}: the unit "{stated}" of {name} is not understood, taken as degrees; convert it if it is not'
    warning = survey.columns.redshift_warning
    if warning and not has_redshift_warning(survey, fields):
        yield (f'{where} has no column "{warning}", which tells bad redshifts: all redshifts are used; add it to the '
               "catalogue, or leave out bad redshifts")


def _is_there(name: str, fields: dict[str, Field]) -> bool:
    return all({source, base_name(source)} & set(fields) for source in sources_of(name, fields))


def _odd_in(name: str, fields: dict[str, Field]) -> list[str]:
    """Columns of numbers with a few texts from which a name is computed."""
    return [source for source in sources_of(name, fields) if field_of(fields, source).odd]


def _odd_rows(where: str, names: Sequence[str], fields: dict[str, Field]) -> Iterator[str]:
    """Texts in columns of numbers: of a row that has several, the first."""
    by_row: dict[int, list[str]] = {}
    for source in dict.fromkeys(source for name in names for source in _odd_in(name, fields)):
        by_row.setdefault(fields[source].odd[0], []).append(source)  # type: ignore[index]
    for row, (first, *others) in by_row.items():
        text = fields[first].odd[1]  # type: ignore[index]
        more = f" (and texts in {len(others)} other columns)" if others else ""
        yield f"{where}: {described(text, row, first)}{more}"


def _is_of_texts(name: str, fields: dict[str, Field], survey: Survey) -> bool:
    """Whether a quality cut compares a column with texts."""
    if name not in survey.quality:
        return False
    try:
        return field_of(fields, name).kind == "bool"
    except PopcatError:
        return False


def _wrong_kinds(where: str, fields: dict[str, Field], names: Sequence[str], survey: Survey) -> Iterator[str]:
    key = survey.columns.object_id
    kinds = {name: field_of(fields, name).kind for name in names}
    if kinds.get(key, "integer") != "integer" and not is_text(kinds[key]):
        yield (f'{where}: column "{key}" must hold integers or text, as it identifies galaxies; got {kinds[key]}: '
               "convert it to int64, or name another column")
    wrong = {name: kind for name, kind in kinds.items()
             if name not in survey.quality and name != key and kind not in ("integer", "float")}  # fmt: skip
    if wrong:
        listing = ", ".join(f"{name} ({kind})" for name, kind in wrong.items())
        yield (f"{where}: expected one number a row in every column of the survey, got {listing}; convert these "
               'columns to numbers, or name one element of a vector, such as "NMGY[2]"')
    vague = [f"{name} ({kinds[name]})" for name in survey.quality if kinds.get(name, "bool") != "bool"]
    if vague:
        yield (f'{where}: expected conditions as quality cuts of the survey, such as "NQ >= 3", '
               f"got {', '.join(vague)}")


def _wrong_units(where: str, fields: dict[str, Field], survey: Survey) -> Iterator[str]:
    for name, stated, verdict, band in _stated(fields, survey):
        unit = survey.unit_of(band)
        is_brought_to_ab = verdict == "zero_point" and unit in MAGNITUDES and band.ab_offset_mag != 0.0
        if verdict not in ("same", "unknown") and not is_brought_to_ab:
            yield (f'{where}: column "{name}" is in "{stated}" by its own account, but survey "{survey.name}" says '
                   f'unit = "{unit}"; {remedy(verdict, stated, band, unit)}')


def _wrong_angles(where: str, fields: dict[str, Field], survey: Survey) -> Iterator[str]:
    """Positions that a file states in another unit than degrees, and redshifts in one of velocities."""
    for name, stated in _stated_angles(fields, survey):
        factor, key = degrees_per(stated), "ra" if name == survey.columns.ra else "dec"
        if factor is None and parsed_unit(stated) is not None:
            yield f'{where}: column "{name}" is in "{stated}" by its own account, expected degrees; name another column'
        elif factor is not None and factor != 1.0:
            yield (f'{where}: column "{name}" is in "{stated}" by its own account, expected degrees; convert it in the '
                   f'survey file, {key} = "{factor:.15g} * {quoted_name(name)}"')
    for name in (survey.columns.redshift, survey.columns.redshift_err):
        stated = field_of(fields, name).unit if name and _is_there(name, fields) else None
        if name and stated and is_velocity(stated):
            yield (f'{where}: column "{name}" is in "{stated}" by its own account, expected redshifts; name another '
                   f'column, or divide it in the survey file, "{quoted_name(name)} / 299792.458" for km/s')


def _stated_angles(fields: dict[str, Field], survey: Survey) -> Iterator[tuple[str, str]]:
    """Columns of positions whose unit a file states, and what it states."""
    for name in (survey.columns.ra, survey.columns.dec):
        stated = field_of(fields, name).unit if name and _is_there(name, fields) else None
        if name and stated:
            yield name, stated


def _stated(fields: dict[str, Field], survey: Survey) -> Iterator[tuple]:
    """Columns of fluxes and errors whose unit a file states: name, what it states, the verdict, the band."""
    for band in survey.bands:
        for name, power in ((band.flux, 1), (band.flux_err, 1), (band.flux_ivar, -2)):
            stated = field_of(fields, name).unit if name and _is_there(name, fields) else None
            if stated:
                text = base_unit(stated) if power == -2 else stated
                yield name, stated, verdict_of(text, survey.unit_of(band)), band
