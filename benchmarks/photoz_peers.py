"""Template-fitting redshifts by EAZY or LePHARE, in a Python that has them; benchmarks/photoz.py calls this.

    python photoz_peers.py eazy|lephare INPUT.npz OUTPUT.npz TEMPLATES

INPUT: flux and flux_err (n, b) in uJy, NaN where not observed; train_flux, train_flux_err and train_redshift of
galaxies of known redshift, from which zero points are derived with the code's own models; wave_<i> and response_<i>
(Angstrom) of each band; floor, the error relative to the flux that is added; z_max. OUTPUT: grid (m,), pdf (n, m),
chi2 (n,), zero_points (b,) added to magnitudes, setup_s, fit_s. TEMPLATES: EAZY's folder of `templates`, or LEPHAREDIR.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MOST_TRAINING = 500
MISSING = -99.0
EAZY = {
    "TEMPLATES_FILE": "templates/fsps_full/tweak_fsps_QSF_12_v3.param",
    "TEMP_ERR_FILE": "templates/TEMPLATE_ERROR.eazy_v1.0", "TEMP_ERR_A2": 0.2, "FILTERS_RES": "bands.res",
    "CATALOG_FORMAT": "fits", "APPLY_PRIOR": "n", "PRIOR_ABZP": 23.9, "Z_STEP": 0.01, "Z_MIN": 0.01,
    "N_MIN_COLORS": 2, "MW_EBV": 0.0, "CAT_HAS_EXTCORR": "n", "VERBOSITY": 0,
}  # fmt: skip
LEPHARE = {
    "MOD_EXTINC": "18,26,26,33,26,33,26,33", "EM_LINES": "EMP_UV",
    "EXTINC_LAW": "SMC_prevot.dat,SB_calzetti.dat,SB_calzetti_bump1.dat,SB_calzetti_bump2.dat",
    "EB_V": "0.,0.05,0.1,0.15,0.2,0.25,0.3,0.35,0.4,0.5", "EM_DISPERSION": "0.5,0.75,1.,1.5,2.",
    "GAL_LIB": "LIB_CE", "GAL_LIB_IN": "LIB_CE", "GAL_LIB_OUT": "CE", "ZPHOTLIB": "CE", "FILTER_FILE": "bands",
    "TRANS_TYPE": "1", "ERR_FACTOR": "1.5", "MAG_ABS": "-25,-5", "MAG_REF": "3", "MABS_METHOD": "0", "MABS_REF": "1",
    "MABS_FILT": "1", "MABS_ZBIN": "0,9", "MABS_CONTEXT": "-1", "RF_COLORS": "1,2,1,2", "ADAPT_LIM": "1.5,30.0",
    "PDZ_TYPE": "BAY_ZG", "PDZ_OUT": "NONE", "CAT_FMT": "MMEE", "VERBOSE": "NO", "Z_INTERP": "YES",
}  # fmt: skip
"""The COSMOS set-up of Ilbert et al. (2009); the intergalactic medium is that of Meiksin (2006)."""


def main(code: str, given: str, result: str, templates: str) -> None:
    data = dict(np.load(given))
    data["bands"] = [(data[f"wave_{i}"], data[f"response_{i}"]) for i in range(data["flux"].shape[1])]
    some = slice(0, MOST_TRAINING)
    data["train"] = [data[f"train_{name}"][some] for name in ("flux", "flux_err", "redshift")]
    folder = tempfile.TemporaryDirectory()
    os.chdir(folder.name)
    found = {"eazy": eazy, "lephare": lephare}[code](data, Path(templates))
    np.savez(result, **found)


def eazy(data: dict, templates: Path) -> dict:
    """EAZY (Brammer et al. 2008): non-negative sums of templates. Zero points from models at the known redshifts."""
    from eazy import photoz
    from eazy.photoz import PhotoZ

    photoz.MULTIPROCESSING_TIMEOUT = 86_400  # EAZY gives up after ten minutes, which a busy machine takes
    start = time.perf_counter()
    Path("templates").symlink_to(templates / "templates")
    write_eazy_bands(data["bands"])
    flux, flux_err, redshift = data["train"]
    Path("translate").touch()  # nothing: the columns have EAZY's own names
    how = {"translate_file": "translate", "load_prior": False, "n_proc": 1}
    settings = EAZY | {"SYS_ERR": float(data["floor"]), "Z_MAX": float(data["z_max"])}
    offsets = np.ones(flux.shape[1])
    if len(redshift):
        trained = PhotoZ(params=settings | {"CATALOG_FILE": eazy_table(flux, flux_err, redshift)}, **how)
        how["tempfilt"] = trained.tempfilt
        for _ in range(5):
            trained.zp = offsets
            trained.fit_at_zbest(zbest=redshift.astype(np.float32), n_proc=0)
            with np.errstate(all="ignore"):
                ratio = trained.fmodel / (trained.fnu * offsets)
            good = trained.ok_data & (trained.fnu > 5 * trained.efnu_orig) & (trained.fmodel > 0)
            change = np.array([np.median(ratio[good[:, i], i]) if good[:, i].sum() > 50 else 1.0
                               for i in range(len(offsets))])  # fmt: skip
            offsets = offsets * change / np.exp(np.mean(np.log(change)))
    fitted = PhotoZ(params=settings | {"CATALOG_FILE": eazy_table(data["flux"], data["flux_err"])}, **how)
    fitted.zp = offsets
    setup = time.perf_counter() - start
    fitted.fit_catalog(n_proc=0, get_best_fit=False)
    chi2 = fitted.chi2_fit.min(axis=1)
    # fit_catalog leaves ln p(z), the template error's share of the normalisation included
    pdf = np.exp(fitted.lnp.astype(float) - fitted.lnp.max(axis=1, keepdims=True).astype(float))
    return {"grid": fitted.zgrid, "pdf": pdf, "chi2": chi2, "zero_points": -2.5 * np.log10(offsets),
            "setup_s": setup, "fit_s": time.perf_counter() - start - setup}  # fmt: skip


def write_eazy_bands(bands) -> None:
    """Curves as EAZY reads them."""
    lines = []
    for number, (wave, response) in enumerate(bands):
        lines.append(f"{len(wave)} band{number} lambda_c= {np.average(wave, weights=response):.1f}")
        lines += [f"{i + 1} {w:.3f} {t:.8g}" for i, (w, t) in enumerate(zip(wave, response, strict=True))]
    Path("bands.res").write_text("\n".join(lines) + "\n", encoding="utf-8")


def eazy_table(flux, flux_err, redshift=None):
    from astropy.table import Table

    table = Table({"id": np.arange(len(flux))})
    seen = np.isfinite(flux) & np.isfinite(flux_err)
    for i in range(flux.shape[1]):
        table[f"F{i + 1}"] = np.where(seen[:, i], flux[:, i], MISSING)
        table[f"E{i + 1}"] = np.where(seen[:, i], flux_err[:, i], MISSING)
    table["z_spec"] = np.full(len(flux), -1.0) if redshift is None else redshift
    table["ra"] = table["dec"] = 0.0
    return table


def lephare(data: dict, templates: Path) -> dict:
    """LePHARE (Arnouts & Ilbert): the COSMOS templates, one at a time. Zero points by its own adaptation."""
    for name in ("filt", "lib_bin", "lib_mag", "zphota", "bands"):
        Path(name).mkdir(exist_ok=True)
    shutil.copytree(templates, "data", copy_function=os.symlink)
    for folder in ("data/opa", "data/ext"):
        Path(folder).chmod(0o755)
    Path("data/opa/OPACITY.dat").unlink()
    Path("data/opa/OPACITY.dat").symlink_to(templates / "opa" / "OPACITY_meiksin.dat")
    if not (curve := Path("data/ext/MW_seaton.dat")).exists():
        np.savetxt(curve, milky_way())
    os.environ |= {"LEPHAREDIR": f"{os.getcwd()}/data", "LEPHAREWORK": os.getcwd(), "OMP_NUM_THREADS": "1"}
    import lephare as lp

    lp.GalMag.read_B12 = lambda galaxies: None  # LePHARE 1.0 reads dust emission, whatever ADD_DUSTEM says

    start = time.perf_counter()
    names = []
    for number, (wave, response) in enumerate(data["bands"]):
        names.append(f"band{number}.dat")
        np.savetxt(Path("bands") / names[-1], np.column_stack([wave, response]), fmt="%.4f %.8g", header=names[-1])
    count = len(names)
    config = lp.default_cosmos_config | LEPHARE | {
        "FILTER_REP": f"{os.getcwd()}/bands", "FILTER_LIST": ",".join(names), "FILTER_CALIB": ",".join(["0"] * count),
        "ERR_SCALE": ",".join([str(float(data["floor"]))] * count), "Z_STEP": f"0.01,0.,{float(data['z_max'])}",
        "ADAPT_BAND": str(count // 2), "ADAPT_ZBIN": f"0.01,{float(data['z_max'])}",
    }  # fmt: skip
    lp.prepare(config, star_config=None, qso_config=None)
    offsets = np.zeros(count)
    if len(data["train"][2]):
        adapt = config | {"AUTO_ADAPT": "YES"}
        offsets = np.array(lp.calculate_offsets_from_input(adapt, lephare_table(*data["train"])))
        config["APPLY_SYSSHIFT"] = ",".join(str(value) for value in offsets)
    setup = time.perf_counter() - start
    _, sources = lp.process(config, lephare_table(data["flux"], data["flux_err"]))
    fit = time.perf_counter() - start - setup
    bayesian = 11  # the p(z) of galaxies that sums over templates
    grid = np.array(sources[0].pdfmap[bayesian].xaxis)
    pdf = np.array([source.pdfmap[bayesian].vPDF for source in sources])
    chi2 = np.array([source.chimin[0] for source in sources])
    return {"grid": grid, "pdf": pdf, "chi2": chi2, "zero_points": -offsets, "setup_s": setup, "fit_s": fit}


def milky_way() -> np.ndarray:
    """The Milky Way's extinction in magnitudes per E(B-V), of Cardelli et al. (1989): LePHARE reddens lines by it."""
    from astropy.units import angstrom
    from dust_extinction.parameter_averages import CCM89

    wave = np.arange(1010.0, 33000.0, 10.0)
    return np.column_stack([wave, 3.1 * CCM89(Rv=3.1)(wave * angstrom)])


def lephare_table(flux, flux_err, redshift=None):
    """Fluxes in erg/s/cm2/Hz, in the order that LePHARE calls MMEE."""
    from astropy.table import Table

    table = Table({"id": np.arange(len(flux))})
    for i in range(flux.shape[1]):
        table[f"f_{i}"] = flux[:, i] * 1e-29
    for i in range(flux.shape[1]):
        table[f"e_{i}"] = flux_err[:, i] * 1e-29
    table["context"] = 0
    table["zspec"] = np.full(len(flux), MISSING) if redshift is None else redshift
    table["string_input"] = "-"
    return table


if __name__ == "__main__":
    main(*sys.argv[1:5])
