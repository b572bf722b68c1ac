"""What to trust of a fitted population: its distance from the data, what its start decides, the spread of its flows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from popcat.display import listed
from popcat.population.fitted import Description

MOST = 2.0
"""A population whose photometry is farther from the data than so many times sampling noise is not one to use."""
_SEEN = 1.5
_MEASURED, _OPEN = 0.1, 0.3
"""Differences of two fits, in widths: below the first a quantity is measured, from the second on its start decides."""
MEASURED, PARTLY, BY_START, UNTESTED = "measured", "partly", "decided by the start", "not tested"
_NAMES = {"flat": "the training prior", "physical": "the physical prior", "wide": "the wide prior"}


@dataclass(frozen=True)
class Statement:
    """One thing to know before a population is used; level: pass, note, warn or fail."""

    level: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.title}. {self.text}"


def differs_from_data(measured: Mapping) -> bool:
    """Whether the photometry of a population is beyond twice what sampling noise alone would give.

    >>> differs_from_data({"distance_over_floor": 2.3}), differs_from_data({})
    (True, False)
    """
    return measured.get("distance_over_floor", 0.0) > MOST


def standing(quantity: Mapping, measured: Mapping) -> str:
    """What two starts say of a quantity (`popcat.population.sensitivity.quantities_of`).

    Fits that are not like the data have hardly left what every flow begins with: that they agree says nothing.

    >>> standing({"between_fits": 0.02, "between_starts": 0.8}, {"second": {"distance_over_floor": 1.2}})
    'measured'
    >>> standing({"between_fits": 0.02, "between_starts": 0.8}, {"second": {"distance_over_floor": 20.0}})
    'not tested'
    """
    if quantity["between_fits"] is None or differs_from_data(measured):
        return UNTESTED
    if quantity["between_fits"] >= _OPEN:
        return BY_START
    if quantity["between_fits"] >= _MEASURED:
        return PARTLY
    is_alike = quantity["between_starts"] < _MEASURED
    return UNTESTED if is_alike or differs_from_data(measured["second"]) else MEASURED


def statements(description: Description) -> list[Statement]:
    """What to trust: the distance from the data first, then what matters most.

    >>> from popcat.forward.noise import default_noise
    >>> from popcat.galaxy_model import GalaxyModel
    >>> from popcat.population.settings import PopulationSettings
    >>> from popcat.survey import load_survey
    >>> survey = load_survey("sdss")
    >>> measured = {"distance_over_floor": 14.0, "distance_over_floor_err": 0.5, "compared": 5000}
    >>> made = Description(survey=survey, galaxy_model=GalaxyModel(), noise=default_noise(survey), cuts=(),
    ...                    route="wasserstein", settings=PopulationSettings(), members=(), measured=measured)
    >>> [one.level for one in statements(made)]
    ['fail', 'warn', 'warn']
    """
    found = [_distance(description), _start(description), _spread(description)]
    failed = [str(member.number) for member in description.members if member.failure]
    if failed:
        found.append(Statement("warn", "Flows that failed", f"Flows {', '.join(failed)} could not be fitted and are "
                               "left out."))  # fmt: skip
    order = ("fail", "warn", "note", "pass")
    return [found[0], *sorted(found[1:], key=lambda one: order.index(one.level))]


def distance_line(measured: Mapping) -> str:
    """How far synthetic photometry is from the data."""
    return (f"Synthetic and observed photometry differ by {measured['distance_over_floor']:.2f} ± "
            f"{measured['distance_over_floor_err']:.2f} times what sampling noise alone would give "
            f"({measured['compared']:,} galaxies).")  # fmt: skip


def _distance(description: Description) -> Statement:
    measured = description.measured
    if "distance_over_floor" not in measured:
        return Statement("warn", "Photometry was not compared", "The population was fitted to posteriors. Its "
                         "synthetic photometry was not compared with the data.")  # fmt: skip
    line = f"{distance_line(measured)} Sampling noise is the distance between two random halves of the data."
    if differs_from_data(measured):
        return Statement("fail", "The fit does not match the data", f"{line} More than {MOST:g} times: do not use this "
                         "population. Usual causes are too few steps, other noise than the catalogue's, a cut that is "
                         "left out, or light that the galaxy model lacks.")  # fmt: skip
    if measured["distance_over_floor"] > _SEEN:
        return Statement("warn", "The fit is near the data", f"{line} Above about {_SEEN:g} times a difference is "
                         "left: see the figure of the photometry.")  # fmt: skip
    return Statement("pass", "The fit matches the data", f"{line} Below about {_SEEN:g} times this test sees no "
                     "difference. It cannot test what the bands do not measure.")  # fmt: skip


def _start(description: Description) -> Statement:
    measured, title = description.measured, "What the start decides"
    second, rows = measured.get("second") or {}, measured.get("quantities", [])
    if second.get("failure") or not second or not rows:
        why = f"The second fit failed: {second['failure']}." if second else "There is no fit from a second start."
        return Statement("warn", title, f"{why} How much of a quantity comes from the start of the fit is not known. "
                         "Star formation, dust and metallicity usually do, if there are only a few bands.")  # fmt: skip
    if differs_from_data(measured):
        return Statement("warn", title, "Not tested. Two fits from different starts can be compared only if they match "
                         "the data.")  # fmt: skip
    text = (f"A second, shorter fit started from {start_words(second['start'])} instead of "
            f"{start_words(measured['start'])}. What differs between the two fits, the data do not measure.")
    words = {BY_START: f"Decided by the start (by {_OPEN:.0%} of the width or more)", PARTLY: "Partly",
             MEASURED: f"Measured (the fits differ by less than {_MEASURED:.0%} of the width)",
             UNTESTED: "Not tested, because the two starts are alike"}  # fmt: skip
    if differs_from_data(second):
        text += (f" The second fit differs from the data by {second['distance_over_floor']:.1f} times sampling noise: "
                 "more steps would bring it nearer, and a part of the differences may be due to that.")  # fmt: skip
        words[UNTESTED] = "Not tested"
    by = {word: [row["name"] for row in rows if standing(row, measured) == word] for word in words}
    text += "".join(f" {words[word]}: {listed(names, 20)}." for word, names in by.items() if names)
    return Statement("pass" if by[MEASURED] and not by[BY_START] else "warn", title, text)


def _spread(description: Description) -> Statement:
    flows = [member for member in description.members if member.weight > 0.0]
    rows = [row for row in description.measured.get("quantities", []) if row["between_flows"] is not None]
    title = "Spread of the flows"
    if len(flows) < 2 or not rows:
        return Statement("warn", title, "One flow has no spread: this fit does not show how much depends on its "
                         "random numbers. Five flows do (members = 5).")  # fmt: skip
    worst = max(rows, key=lambda row: row["between_flows"])
    return Statement("note", title, f"{len(flows)} flows from different random numbers differ by at most "
                     f"{worst['between_flows']:.0%} of the width of a quantity ({worst['name']}). All have the same "
                     "start, so the true uncertainty may be larger.")  # fmt: skip


def start_words(name: str) -> str:
    """A start in words.

    >>> start_words("flat"), start_words("priors/mine.toml")
    ('the training prior', 'mine.toml')
    """
    return _NAMES.get(name, Path(name).name)
