"""UCDs (IVOA Unified Content Descriptors, UCD1+) of popcat's columns, by their names."""

_EXACT = {
    "object_id": "meta.id;meta.main",
    "object_name": "meta.id",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "redshift": "src.redshift",
    "redshift_err": "stat.error;src.redshift",
    "status": "meta.code.status",
    "flags": "meta.code",
    "clean": "meta.code.qual",
    "n_bands": "meta.number;instr.bandpass",
    "worst_band": "instr.bandpass",
    "chi2_best": "stat.fit.chi2",
    "certified": "meta.code.qual",
    "route": "meta.code.class",
    "route_why": "meta.note",
    "log_evidence": "stat.likelihood",
    "ess": "meta.number",
    "efficiency": "meta.number;arith.ratio",
    "pareto_k": "stat.param",
    "n_proposals": "meta.number",
    "p_star": "stat.probability;src.class.starGalaxy",
    "p_qso": "stat.probability;src.class",
    "_healpix_29": "pos.healpix",
}
_PHYSICS = (
    ("log_mstar", "phys.mass"), ("log_l_", "phys.luminosity"), ("log_flux_", "phot.flux"),
    ("ew_", "spect.line.eqWidth"), ("log_sfr", "phys.SFR"), ("log_ssfr", "phys.SFR"), ("log_z", "phys.abund.Z"),
    ("log_gamma", "phys.abund.Z"), ("age", "time.age"), ("t_burst", "time.age"),
    ("tau", "phys.absorption.opticalDepth"), ("n_dust", "phys.absorption"), ("bump_dust", "phys.absorption"),
    ("ebv_agn", "phys.absorption"), ("redshift", "src.redshift"),
    ("tail_", "stat.probability"),
)  # fmt: skip
_STATISTIC = {"p50": "stat.median", "p16": "stat.interval", "p84": "stat.interval"}
_LIGHT = {
    "FUV": "em.UV.100-200nm", "NUV": "em.UV.200-300nm", "u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R",
    "i": "em.opt.I", "z": "em.opt.I", "X": "em.opt.I", "y": "em.IR.J", "Y": "em.IR.J", "J": "em.IR.J", "H": "em.IR.H",
    "K": "em.IR.K", "Ks": "em.IR.K", "W1": "em.IR.3-4um", "W2": "em.IR.4-8um",
}  # fmt: skip


def ucd_of(column: str) -> str:
    """The UCD of a column.

    >>> ucd_of("flux_err_r"), ucd_of("log_mstar_p50"), ucd_of("beta1_draws")
    ('stat.error;phot.flux.density;em.opt.R', 'phys.mass;stat.median', 'stat.fit.param')
    """
    if column in _EXACT:
        return _EXACT[column]
    if column.startswith("flux_"):
        band = column.rsplit("_", 1)[1]
        error = "stat.error;" if column.startswith("flux_err_") else ""
        return f"{error}phot.flux.density{';' + _LIGHT[band] if band in _LIGHT else ''}"
    physics = next((ucd for start, ucd in _PHYSICS if column.startswith(start)), "stat.fit.param")
    statistic = _STATISTIC.get(column.rsplit("_", 1)[-1])
    return f"{physics};{statistic}" if statistic else physics
