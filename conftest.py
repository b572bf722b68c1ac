"""Examples in docstrings run in a folder with `galaxies.parquet`, forty real galaxies, and, where one names it,
`posteriors`, their catalogue."""

import os
import tempfile
from importlib.resources import files

import pytest

if "PYTEST_XDIST_WORKER" not in os.environ:
    # As in tests/conftest.py, which doctests do not see: band tables never come from the user's own cache.
    os.environ.setdefault("POPCAT_CACHE", tempfile.mkdtemp(prefix="popcat-doctests-"))


@pytest.fixture(scope="session")
def _forty(tmp_path_factory):
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("examples")
    table = pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet")
    pq.write_table(table[:40], folder / "galaxies.parquet")
    return folder


@pytest.fixture(autouse=True)
def _example_folder(request, monkeypatch):
    """Only for docstrings that name one of the files, so that the others stay cheap."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    text = "".join(example.source for example in request.node.dtest.examples)
    if not any(f'"{name}' in text for name in ("galaxies.parquet", "posteriors", "library")):
        return
    if "crosscheck(" in text or "compare_with_sampler(" in text:
        pytest.importorskip("emcee", reason="emcee is of the extra `bench`")
    folder = request.getfixturevalue("_forty")
    monkeypatch.chdir(folder)
    if '"posteriors' in text and not (folder / "posteriors").exists():
        from popcat import infer

        infer("galaxies.parquet", output="posteriors", draws=20, client="synchronous")
