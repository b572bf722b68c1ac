"""Photometric redshifts: the posterior of redshift and everything else where no spectrum is.

    python examples/photo_z.py CATALOG OUTPUT

The spectroscopic redshifts of a catalogue are hidden, inferred from the photometry, and compared with the truth.
"""

import sys

import numpy as np

import popcat


def main(path: str, output: str) -> None:
    """Infer a catalogue without its redshifts, and print how near the posteriors come to them."""
    catalog = popcat.infer(path, "sdss", output=output, draws=100, hide_redshift=True, client="synchronous")
    truth = popcat.read_catalog(path, "sdss").compute().set_index("object_id")["redshift"]
    found = catalog.quantity("redshift").set_index("object_id")
    residual = (found["p50"] - truth[found.index]) / (1 + truth[found.index])
    rank = np.array([np.mean(np.asarray(draws) < truth[number]) for number, draws in found["draws"].items()])
    print(f"{len(found)} galaxies: sigma_NMAD {1.4826 * np.median(np.abs(residual - residual.median())):.3f}")
    print(f"{np.mean((rank > 0.16) & (rank < 0.84)):.0%} of true redshifts lie in the central 68% of their posterior")


if __name__ == "__main__":
    main(*sys.argv[1:3] or ("demo/catalog.parquet", "demo/photo_z"))
