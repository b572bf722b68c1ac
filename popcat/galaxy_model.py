"""The galaxy model's settings. Its prior is made of them in popcat.prior."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from popcat.display import Displayed
from popcat.prior_families import AnyFamily
from popcat.settings import Settings, ascending
from popcat.simplex import weight_names

LAW_PARAMETERS = {
    "kriek_conroy": ("n_dust",),
    "calzetti": (),
    "smc": (),
    "salim": ("n_dust", "bump_dust"),
    "charlot_fall": ("n_dust",),
}
"""Attenuation laws, and the parameters of their own beside the optical depths."""
_GAS_PARAMETERS = {"grid": (), "cloudy": ("log_u", "f_esc")}
_DUST_EMISSION_PARAMETERS = {"none": (), "draine_li_2007": ("q_pah", "u_min", "gamma_dust")}
_AGN_PARAMETERS = {"none": (), "temple_2021": ("log_f_agn", "ebv_agn")}
_LATER = (
    "priors", "bins_per_dex", "gas", "dust_law", "dust_emission", "agn", "igm", "history", "remnants",
    "metallicity_range", "metallicity_nodes", "preset",
)  # fmt: skip
_BEFORE = {"igm": "none", "remnants": "none"}
"""What those that came later were before, where that is not their default."""
PRESETS = {
    "provabgs": {
        "bases": "provabgs", "binning": "midpoint", "birth_cloud_age_gyr": 0.01, "metallicity_range": (4.5e-5, 0.045),
        "remnants": "renzini_ciotti_1993", "igm": "none",
    },
}  # fmt: skip
"""Settings that a preset stands for."""
OF_BASES = ("lookback", "fractional")
"""Histories that are mixtures of bases."""
STEPS = ("continuity", "continuity_bursty", "dirichlet")
"""Histories of steps in lookback time; their number is n_sfh_bases."""
HISTORY_PARAMETERS = {
    "delayed_tau": ("age_fraction", "log_tau_fraction"),
    "lognormal": ("peak_fraction", "fwhm_fraction"),
    "double_power_law": ("log_falling_slope", "log_rising_slope", "turnover_fraction"),
}
"""Parametric histories, and their parameters."""
_N_BASES = {"fractional": 6, **dict.fromkeys(STEPS, 7)}
_BINS_PER_DEX = {"continuity_bursty": 20, "delayed_tau": 20, "lognormal": 20, "double_power_law": 40}
"""Defaults of histories for which they are not those of bases in lookback time."""


class GalaxyModel(Displayed, Settings):
    """The galaxy model: stellar populations, bases, discretisation, dust, cosmology, prior ranges."""

    preset: Literal["provabgs"] | None = None
    """Settings of a published model in place of the defaults; what else is set stands. "provabgs" is the released code
    of PROVABGS (Hahn et al. 2023) but for its stars: its bases, time bins and birth clouds, metallicities of MIST
    (4.5e-5 to 0.045), remnants as in FSPS, no intergalactic medium. A model holds these settings, not the name."""
    grid: str = "bc03_miles"
    """Name of an embedded SSP grid, "bc03_miles" or with nebular emission "bc03_miles_nebular", or the path of one that
    `popcat ssp build` wrote."""
    history: Literal[
        "lookback", "fractional", "continuity", "continuity_bursty", "dirichlet", "delayed_tau", "lognormal",
        "double_power_law",
    ] = "lookback"  # fmt: skip
    """Star-formation history. Mixtures of the bases: in "lookback" time, or in fractions of the age of the universe
    ("fractional"). Steps in lookback time: "continuity" (Leja et al. 2019) and "continuity_bursty" (Tacchella et al.
    2022), whose weights are star-formation rates, or "dirichlet", whose weights are fractions of the mass. Or a formula
    (Carnall et al. 2018, 2019) whose times are fractions of the age of the universe."""
    bases: str = "popcat"
    """"popcat" (embedded), "provabgs" (from an installed provabgs), a CSV file of any number of bases, or a folder of
    files named as the published ones. Of a history without bases it gives metallicities alone."""
    n_sfh_bases: int = pydantic.Field(default=4, ge=1)
    """Number of star-formation-history bases that `bases` holds, 6 in those of "fractional"; or of steps, 7 by default
    and at least 4."""
    n_metallicity_bases: int = pydantic.Field(default=2, ge=1)
    """Number of metallicity-history bases that `bases` holds."""
    metallicity: Literal["evolving", "constant"] = "evolving"
    """A mixture of the metallicity bases, or one metallicity for all stars of a galaxy (the parameter log_z, as in
    PopSED): then the metallicity bases play no part."""
    metallicity_range: tuple[float, float] | None = None
    """Absolute metallicities between which stars are taken, as far as the SSP grid goes; those beyond have the nearest.
    By default the grid's."""
    metallicity_nodes: int = pydantic.Field(default=1, ge=1, le=16)
    """Nodes a step of the SSP grid in metallicity: 1 are the grid's own, between which light is linear in ln Z; 4 put
    three more between, by a monotone cubic of ln L in ln Z (benchmarks/metal_interpolation.py says what that gains),
    with so much larger band tables."""
    binning: Literal["average", "midpoint"] = "average"
    """SSP averaged over each time bin, or at its midpoint as in the published PROVABGS code."""
    bins_per_dex: int = pydantic.Field(default=10, ge=5, le=100)
    """Time bins a factor of ten in lookback time, from 1 Myr on: 10 as in PROVABGS; more for bases with steep histories
    (benchmarks/time_bins.py says what that gains), at so much more table and time. 20 by default for
    "continuity_bursty", "delayed_tau" and "lognormal", 40 for "double_power_law"."""
    birth_cloud_age_gyr: float = pydantic.Field(default=0.1, ge=0.0)
    """Stars younger than this are behind tau_bc: 0.1 in the SEDflow paper, 0.01 in its released code."""
    gas: Literal["grid", "cloudy"] = "grid"
    """Gas around young stars: what the SSP grid holds, or "cloudy", at the ionisation parameter log_u, with the
    fraction f_esc of the ionising light that escapes (0 unless `priors` says otherwise)."""
    dust_law: Literal["kriek_conroy", "calzetti", "smc", "salim", "charlot_fall"] = "kriek_conroy"
    """Attenuation of the diffuse dust: Kriek & Conroy 2013 and Charlot & Fall 2000 of slope n_dust, Calzetti et al.
    2000, the Small Magellanic Cloud, or Salim et al. 2018 of slope n_dust and bump bump_dust."""
    dust_emission: Literal["none", "draine_li_2007"] = "none"
    """Emission of what dust absorbs: none, or Draine & Li 2007 with q_pah, u_min and gamma_dust."""
    agn: Literal["none", "temple_2021"] = "none"
    """Active nucleus: none, or disc and hot dust of Temple et al. 2021, log_f_agn of the light, reddened by ebv_agn."""
    igm: Literal["inoue_2014", "none"] = "inoue_2014"
    """Absorption by the intergalactic medium below rest-frame Lyman alpha: Inoue et al. 2014, or none."""
    remnants: Literal["renzini_ciotti_1993", "none"] = "renzini_ciotti_1993"
    """Mass of white dwarfs, neutron stars and black holes in log_mstar, where the surviving mass of the SSP grid does
    not hold them: by Renzini & Ciotti 1993, as in FSPS, or none."""
    cosmology: str = "Planck13"
    """Name of an astropy.cosmology realisation."""
    beta: Literal["flat", "provabgs_warped"] = "flat"
    """Prior of the SFH weights: the flat Dirichlet, or the warped one of the released SEDflow code."""
    log_mstar_formed: tuple[float, float] = (7.0, 12.5)
    """Range of log10 of the mass formed."""
    priors: dict[str, AnyFamily] = pydantic.Field(default_factory=dict)
    """Priors (popcat.distributions) by parameter, "beta" for all SFH weights, and "redshift". What is not named is
    uniform in its range, and the weights are as `beta` says."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _defaults(cls, given):
        """Of the preset and of the history."""
        if not isinstance(given, dict):
            return given
        if given.get("preset") in PRESETS:
            given = PRESETS[given["preset"]] | given
            del given["preset"]
        history, tables = str(given.get("history")), {"n_sfh_bases": _N_BASES, "bins_per_dex": _BINS_PER_DEX}
        return {name: table[history] for name, table in tables.items() if history in table} | given

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        ascending("log_mstar_formed", *self.log_mstar_formed)
        if self.metallicity_range is not None:
            if self.metallicity_range[0] <= 0.0:
                raise ValueError(f"metallicity_range must be above 0, got {self.metallicity_range[0]:g}")
            ascending("metallicity_range", *self.metallicity_range)
        if self.gas == "cloudy" and (self.metallicity_nodes > 1 or self.metallicity_range is not None):
            raise ValueError('gas "cloudy" is there for the SSP grid\'s own metallicities: leave metallicity_nodes and '
                             'metallicity_range out, or take gas = "grid"')  # fmt: skip
        if self.history in STEPS and self.n_sfh_bases < 4:
            raise ValueError(f'history "{self.history}" needs at least 4 steps, got n_sfh_bases = {self.n_sfh_bases}')
        if self.history != "lookback" and self.beta != "flat":
            raise ValueError(f'beta "{self.beta}" is for history "lookback", got "{self.history}": leave beta out')
        if self.history in HISTORY_PARAMETERS and self.n_sfh_bases != 4:
            raise ValueError(f'history "{self.history}" has no bases: leave n_sfh_bases out, got {self.n_sfh_bases}')
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_later(self, handler):
        """As models were written before these could be set: they have the same hashes."""
        return {key: one for key, one in handler(self).items() if key not in self._later}

    @property
    def _later(self) -> set[str]:
        """Settings that came later and are what they were before."""
        own = {"bins_per_dex"} if self.history in _BINS_PER_DEX else set()
        before = self._defaults_of_later() | _BEFORE
        return {name for name in _LATER if name not in own and getattr(self, name) == before[name]}

    def _defaults_of_later(self) -> dict[str, object]:
        fields = type(self).model_fields
        return {name: fields[name].get_default(call_default_factory=True) for name in _LATER}

    def _facts(self) -> dict[str, object]:
        usual = {name for name, value in self._defaults_of_later().items() if getattr(self, name) == value}
        found = {name: getattr(self, name) for name in type(self).model_fields if name not in usual | {"priors"}}
        return found | {f"prior of {name}": one.family for name, one in self.priors.items()}

    @property
    def history_parameters(self) -> tuple[str, ...]:
        """The parameters of the star-formation history: theta's columns after the mass.

        >>> GalaxyModel(history="lognormal").history_parameters
        ('peak_fraction', 'fwhm_fraction')
        """
        return HISTORY_PARAMETERS.get(self.history) or weight_names(self.n_sfh_bases)

    @property
    def component_parameters(self) -> tuple[str, ...]:
        """The parameters of dust, gas and nucleus: theta's last columns.

        >>> GalaxyModel(dust_law="calzetti", agn="temple_2021").component_parameters
        ('tau_bc', 'tau_ism', 'log_f_agn', 'ebv_agn')
        """
        parts = component_parameters(self.dust_law, self.gas, self.dust_emission, self.agn)
        return tuple(name for part in parts for name in part)


def as_recorded(written: Any) -> Any:
    """Settings as a library, a trained posterior or a catalogue records them, with what was not yet a setting then.

    A record without `igm` is of a model without the intergalactic medium, and one without `remnants` of a model whose
    surviving mass is that of the SSP grid. A user's own file is not a record: there the defaults stand.

    >>> GalaxyModel.model_validate(as_recorded({"gas": "cloudy"})).igm, GalaxyModel().igm
    ('none', 'inoue_2014')
    """
    return _BEFORE | dict(written) if isinstance(written, Mapping) else written


RecordedGalaxyModel = Annotated[GalaxyModel, pydantic.BeforeValidator(as_recorded)]
"""The galaxy model in a record: its type in every pydantic model of what popcat writes."""


def component_parameters(dust_law: str, gas: str, dust_emission: str, agn: str) -> tuple[tuple[str, ...], ...]:
    """Parameters component by component, in the order of theta's last columns: dust, gas, emission of dust, nucleus.

    >>> component_parameters("calzetti", "grid", "none", "temple_2021")
    (('tau_bc', 'tau_ism'), (), (), ('log_f_agn', 'ebv_agn'))
    """
    return (("tau_bc", "tau_ism", *LAW_PARAMETERS[dust_law]), _GAS_PARAMETERS[gas],
            _DUST_EMISSION_PARAMETERS[dust_emission], _AGN_PARAMETERS[agn])  # fmt: skip
