"""A synthetic SPS_HOME: every file that FSPS 4.0 (MIST, C3K_LR) reads, in its layout, with stars that are black bodies.

python synthetic_sps_home.py FOLDER writes it: 15 MB in about a second. The real Fortran then gives spectra whose
integral is known, from isochrones that are simple power laws. Read by the tests in a process of its own.
"""

import os
import sys
from pathlib import Path

import numpy as np

N_WAVE, N_LOGT, N_LOGG, N_AGE = 1936, 80, 14, 107
FEH = np.arange(-2.5, 0.51, 0.25)
WAVE = np.geomspace(91.0, 1e8, N_WAVE)
H_CGS, K_CGS, C_CGS, SIGMA_CGS = 6.6261e-27, 1.38065e-16, 2.99792458e10, 5.6704e-5
NOTHING = "1e-60"


def write_home(home: Path) -> None:
    """Every file, in the layout of FSPS 4.0 compiled as its wheel is."""
    for part in (_data, _isochrones, _library, _hot_stars, _cool_stars, _xrays_and_standards, _dust, _nebulae):
        part(home)


def planck(wave_aa, teff):
    """B_nu in cgs."""
    nu = C_CGS / (np.asarray(wave_aa) * 1e-8)
    with np.errstate(over="ignore"):
        return 2.0 * H_CGS * nu**3 / C_CGS**2 / np.expm1(H_CGS * nu / (K_CGS * teff))


def _write(path: Path, *lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _links(path: Path, names) -> None:
    """The same file under other names."""
    for name in names:
        os.link(path, path.with_name(name))


def _rows(wave, values) -> list[str]:
    """One row a wavelength, each followed by the same text."""
    return [f"{w:.6e} {values}" for w in wave]


def _data(home):
    folder = home / "data"
    _write(folder / "emlines_info.dat", "6564.6,Ha")
    _write(folder / "FILTER_LIST", *(f"{i} filter{i} synthetic" for i in range(1, 160)))
    filters = (f"# filter{i}\n{3000 + 50 * i} 0.0\n{3500 + 50 * i} 1.0\n{4000 + 50 * i} 0.0" for i in range(1, 160))
    _write(folder / "allfilters.dat", *filters)
    indices = (f"{4000 + 50 * i} {4010 + 50 * i} {3980 + 50 * i} {3990 + 50 * i} {4020 + 50 * i} {4030 + 50 * i} 1"
               for i in range(30))  # fmt: skip
    _write(folder / "allindices.dat", *["# header"] * 4, *indices)


def _isochrones(home):
    names = [f"{'m' if feh < 0 else 'p'}{abs(round(100 * feh)):03d}" for feh in FEH]
    folder = home / "ISOCHRONES" / "MIST"
    _write(folder / "zlegend.dat", *(f"{name}{feh:6.2f}" for name, feh in zip(names, FEH, strict=True)))
    for name, feh in zip(names, FEH, strict=True):
        blocks = (_isochrone(5.0 + 0.05 * i, feh) for i in range(N_AGE))
        _write(folder / f"isoc_feh_{name}_afe_p0_vvcrit0.4_full.dat", *blocks)


def _isochrone(log_age: float, feh: float) -> str:
    """Main sequence with L = M^3.5 up to the turn-off M ~ (t / 10 Gyr)^-0.4, and beyond it giants."""
    turn_off = min(10.0 ** (-0.4 * (log_age - 10.0) + 0.02 * feh), 100.0)
    mass = np.geomspace(0.08, turn_off, 40)
    log_l, log_t = 3.5 * np.log10(mass), np.maximum(3.76 + 0.55 * np.log10(mass) - 0.04 * feh, 3.45)
    columns = [mass, mass, log_l, log_t, np.zeros(40)]
    if log_age > 7.0:
        rise = np.linspace(0.1, 1.0, 6)
        giants = [turn_off * (1.0 + 0.03 * rise), turn_off * (1.0 - 0.1 * rise), log_l[-1] + 1.5 * rise,
                  np.full(6, 3.6 - 0.03 * feh), np.full(6, 2.0)]  # fmt: skip
        columns = [np.concatenate(pair) for pair in zip(columns, giants, strict=True)]
    m_ini, m_act, log_l, log_t, phase = columns
    log_g = np.log10(m_act) + 4.0 * log_t - log_l - 10.6
    zero = np.zeros(len(m_ini))
    table = np.column_stack([zero + log_age, m_ini, m_act, log_l, log_t, log_g, zero, phase, zero - 12.0])
    row = "%.2f %.9e %.9e %.6f %.6f %.4f %.1f %.1f %.1f\n"
    return "# logage Mini Mact logL logT logg C/O phase logMdot\n" + (row * len(table) % tuple(table.ravel()))[:-1]


def _library(home):
    folder = home / "SPECTRA" / "C3K" / "c3k_lr"
    log_t = np.linspace(3.3, 5.0, N_LOGT)
    _write(folder / "c3k_lr.lambda", *(f"{w:.8e}" for w in WAVE))
    _write(folder / "c3k_lr.res", *["1000.0"] * N_WAVE)
    _write(folder / "logt.dat", *(f"{t:.6f}" for t in log_t))
    _write(folder / "logg.dat", *(f"{g:.2f}" for g in np.linspace(-1.0, 5.5, N_LOGG)))
    _write(folder / "c3k_lr_zlegend.dat", *(f"{feh:+.2f}" for feh in FEH))
    # Wavelength fastest, then temperature, then gravity: the Eddington flux H = B / 4.
    spectra = np.tile(planck(WAVE, 10.0 ** log_t[:, None]) / 4.0, (N_LOGG, 1, 1)).astype(np.float32)
    names = [f"c3k_lr_feh{feh:+.2f}_afe+0.0.spec.bin" for feh in FEH[:11]]
    spectra.tofile(folder / names[0])
    _links(folder / names[0], names[1:])


def _hot_stars(home):
    folder = home / "SPECTRA" / "Hot_spectra"
    wave, teff = np.geomspace(91.0, 1e8, 5508), 45000.0
    z_abs = [0.0002, 0.0005, 0.0010, 0.0015, 0.0020, 0.0030, 0.0050, 0.0080, 0.0120, 0.0200, 0.0300, 0.0400]
    _write(folder / "WMBASIC.teff", *(f"{t:.4f}" for t in np.linspace(4.4, 4.7, 11)))
    _write(folder / "WMBASIC_zlegend.dat", *(f"{z:.4f}" for z in z_abs))
    light = np.pi * planck(wave, teff) / (SIGMA_CGS * teff**4)
    rows = (f"{w:.8e} 33*{x:.6e}" for w, x in zip(wave, light, strict=True))
    _write(folder / f"WMBASIC_z{z_abs[0]:.4f}.spec", *rows)
    _links(folder / f"WMBASIC_z{z_abs[0]:.4f}.spec", [f"WMBASIC_z{z:.4f}.spec" for z in z_abs[1:]])
    _write(folder / "ipagb.teff", *(f"{t:.0f}" for t in np.linspace(50000, 190000, 14)))
    _write(folder / "ipagb_solar.spec", *_rows(np.geomspace(50.0, 1e8, 9281), f"14*{NOTHING}"))
    _links(folder / "ipagb_solar.spec", ["ipagb_halo.spec"])
    wolf_rayet = [f"4.5 {z}\n1963*{NOTHING}" for z in (0.001, 0.004, 0.008, 0.02, 0.04) for _ in range(12)]
    wave_row = " ".join(f"{w:.6e}" for w in np.geomspace(50.0, 1e8, 1963))
    _write(folder / "CMFGEN_WN.teff", *(f"{t:.4f}" for t in np.linspace(4.4, 5.2, 12)))
    _write(folder / "CMFGEN_WN_Zall.spec", wave_row, *wolf_rayet)
    _links(folder / "CMFGEN_WN.teff", ["CMFGEN_WC.teff"])
    _links(folder / "CMFGEN_WN_Zall.spec", ["CMFGEN_WC_Zall.spec"])


def _cool_stars(home):
    folder = home / "SPECTRA" / "AGB_spectra"
    log_z = " ".join(f"{z:.2f}" for z in np.linspace(-2.5, 0.5, 22))
    _write(folder / "Orich.teff", "header", f"0 {log_z}", *(f"{i} 22*{2000 + 200 * i}" for i in range(9)))
    _write(folder / "Orich.spec", *_rows(np.geomspace(91.0, 1e8, 6146), f"9*{NOTHING}"))
    _write(folder / "Crich.teff", "header", *(f"{i} {2000 + 200 * i}" for i in range(5)))
    _write(folder / "Crich.spec", *_rows(np.geomspace(91.0, 1e8, 6146), f"5*{NOTHING}"))
    _write(folder / "Crich_Aringer.teff", *(f"{2000 + 200 * i}" for i in range(9)))
    _write(folder / "Crich_Aringer.spec", *_rows(np.geomspace(91.0, 1e8, 9032), f"9*{NOTHING}"))


def _xrays_and_standards(home):
    folder = home / "SPECTRA"
    _write(folder / "xrb" / "xsp.lambda", *(f"{w:.6e}" for w in np.geomspace(1.0, 1e8, 15000)))
    feh = ("-1.30", "-1.00", "-0.80", "-0.70", "-0.50", "-0.40", "-0.30", "-0.20", "+0.00", "+0.20", "+0.30")
    names = [f"xsp_feh{x}.spec" for x in feh]
    _write(folder / "xrb" / names[0], *[f"15000*{NOTHING}"] * 10)
    _links(folder / "xrb" / names[0], names[1:])
    star = _rows(np.geomspace(500.0, 1e6, 1221), "1e-10")
    _write(folder / "A0V_KURUCZ_92.SED", "header", *star)
    _write(folder / "SUN_STScI.SED", *star)


def _dust(home):
    folder = home / "dust"
    emission = folder / "dustem" / "DL07_MW3.1_00.dat"
    _write(emission, "header", "header", *_rows(np.geomspace(1.0, 1e4, 1001), "44*1e-10"))
    _links(emission, [f"DL07_MW3.1_{i}0.dat" for i in range(1, 7)])
    shells = [f"{2000 + 400 * i} {-3 + 0.1 * j}\n1 1" for i in range(6) for j in range(50)]
    _write(folder / "dusty" / "Orich_dusty.spec", "2", "1000 1e8", *shells)
    _links(folder / "dusty" / "Orich_dusty.spec", ["Crich_dusty.spec"])
    torus = _rows(np.geomspace(1000.0, 1e7, 125), "9*1e-10")
    _write(folder / "Nenkova08_y010_torusg_n10_q2.0.dat", *["header"] * 3, "5 10 20 30 40 60 80 100 150", *torus)
    _write(folder / "alldirty_h.dat", *["header"] * 3, *_rows(np.geomspace(1000, 30000, 25), "1 6*0.5") * 18)
    _links(folder / "alldirty_h.dat", ["alldirty_c.dat"])
    _write(folder / "Gordon03_table4.dat", *_rows(np.geomspace(3.0, 0.1, 30), "0 1.0"))


def _nebulae(home):
    ages = ((i, j, k) for i in range(11) for j in range(10) for k in range(7))
    points = [f"{-2.0 + 0.25 * i} {1e6 * (j + 1)} {-4.0 + 0.5 * k}" for i, j, k in ages]
    for kind, n in (("cont", 1963), ("lines", 166)):
        wave = " ".join(f"{w:.6e}" for w in np.geomspace(91.0, 1e8, n))
        _write(home / "nebular" / f"ZAU_ND_mist.{kind}", "header", wave, *(f"{p}\n{n}*{NOTHING}" for p in points))


if __name__ == "__main__":
    write_home(Path(sys.argv[1]))
