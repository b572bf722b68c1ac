"""The population behind a catalogue: p(theta, z) of all its galaxies at once, from photometry alone.

    python examples/population.py CATALOG OUTPUT

No redshift is used and no single galaxy is fitted. A real fit has five flows and some hundred steps (the defaults of
`popcat population fit`); this one is small, to run in a minute or two. A second fit from another start shows what the
photometry does not measure.
"""

import sys

import pandas as pd

import popcat
from popcat.population.settings import PopulationSettings
from popcat.population.trust import statements

QUICK = PopulationSettings(members=1, steps=10, start_steps=60, library=5000, n_blocks=3, hidden=32,
                           batch=(1000, 1000), check_every=10)  # fmt: skip


def main(path: str, output: str) -> None:
    """Fit a population and print what to trust of it, and what it is made of."""
    population = popcat.fit_population(path, output, settings=QUICK, client="synchronous", samples=20_000, report=print)
    for statement in statements(population.description):
        print(statement)
    galaxies = pd.read_parquet(f"{output}/samples.parquet")
    print(f"{population.description.measured['galaxies']} galaxies were fitted")
    print(f"median redshift {galaxies['redshift'].median():.2f}, median log_mstar {galaxies['log_mstar'].median():.1f}")
    print(f"{(galaxies['log_ssfr'] < -11).mean():.0%} are quiescent")


if __name__ == "__main__":
    main(*sys.argv[1:3] or ("demo/catalog.parquet", "demo/population"))
