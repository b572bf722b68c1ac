"""Parts that cost nothing."""

import pytest

from popcat.catalog.parts import OutputFolder


@pytest.fixture
def folder(tmp_path):
    """An output folder of six parts."""
    return OutputFolder.open(tmp_path / "out", {"n": 12}, 6, kind="demo")


@pytest.fixture
def jobs(folder):
    return {index: (folder, index) for index in range(6)}
