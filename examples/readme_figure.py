"""README's figures, from what `make demo` wrote: python examples/readme_figure.py demo examples

demo.png has the catalogue, galaxy.png the galaxy of examples/one_galaxy.py.
"""

import io
import sys
from pathlib import Path

from PIL import Image

from popcat import fit_galaxy, open_catalog
from popcat.plots import mass_redshift, save_figure

HEIGHT = 330


def main(demo: Path, output: Path) -> None:
    """Write both figures."""
    columns = ["redshift_p50", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84"]
    frame = open_catalog(demo / "posteriors").to_pandas(columns, where="status == 'ok'")
    save_figure(mass_redshift(frame), output / "demo.png", small=True)
    galaxy_figure(output / "galaxy.png")


def galaxy_figure(path: Path) -> None:
    """Spectral energy distribution, star-formation history and corner plot of one galaxy in a row."""
    magnitudes, errors = [18.99, 17.52, 16.77, 16.43, 16.20], [0.06, 0.03, 0.03, 0.03, 0.04]
    galaxy = fit_galaxy(magnitudes, errors, "sdss", redshift=0.1, unit="ab_mag")
    panels = []
    for figure in (galaxy.sed(), galaxy.sfh(), galaxy.corner()):
        figure.savefig(buffer := io.BytesIO(), format="png", dpi=100)
        panel = Image.open(buffer).convert("RGB")
        panels.append(panel.resize((round(panel.width * HEIGHT / panel.height), HEIGHT), Image.Resampling.LANCZOS))
    row = Image.new("RGB", (sum(panel.width for panel in panels), HEIGHT), "white")
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width
    row.quantize(32, dither=Image.Dither.NONE).save(path, "png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
