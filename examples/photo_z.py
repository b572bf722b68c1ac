"""Photometric redshifts: the posterior of redshift and everything else where no spectrum is.

    python examples/photo_z.py CATALOG OUTPUT

The spectroscopic redshifts of a catalogue are hidden, inferred from the photometry, and compared with the truth.
"""

import sys

import popcat


def main(path: str, output: str) -> None:
    """Infer a catalogue without its redshifts, and print how near the posteriors come to them."""
    catalog = popcat.infer(path, "sdss", output=output, draws=100, hide_redshift=True, client="synchronous")
    truth = popcat.read_catalog(path, "sdss").compute().set_index("object_id")["redshift"]
    found = catalog.photoz()
    print(found.to_pandas().describe())
    scores = found.scores(truth).iloc[0]
    print(f"{scores['n']:.0f} galaxies: sigma_NMAD {scores['nmad']:.3f}, bias {scores['bias']:.3f}")
    print(f"{scores['outlier_015']:.1%} are off by more than 0.15 (1 + z); PIT's KS distance {scores['pit_ks']:.3f}")
    print(found.scores(truth, by="22.5 - 2.5 * log10(flux_r)", bins=3))


if __name__ == "__main__":
    main(*sys.argv[1:3] or ("demo/catalog.parquet", "demo/photo_z"))
