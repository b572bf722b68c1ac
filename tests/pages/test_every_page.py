"""Every page: no wider than a narrow window, nothing from the network, and clean by axe-core, by day and by night."""

import numpy as np
import pytest
from browser import needs_axe, needs_chromium

from popcat.checks.compare import SUMMARISED, CheckedGalaxy, CrossCheck
from popcat.pages.crosscheck import write_crosscheck
from popcat.plots.style import CORNER

pytestmark = needs_chromium


def a_crosscheck():
    """Of three galaxies, with identifiers as long as they come."""
    random = np.random.default_rng(4)
    galaxies = [CheckedGalaxy(object_id=1237648704586000000 + i, route="flow+is", certified=True, converged=i < 2,
                              log_evidence=-12.5, log_evidence_sampler=-12.4, c2st=0.51,
                              shifts={name: {"p50": 0.02 - 0.03 * i} for name in SUMMARISED})
                for i in range(3)]  # fmt: skip
    corners = [(one.object_id, *({name: random.normal(size=300) for name in CORNER} for _ in range(2)))
               for one in galaxies[:2]]  # fmt: skip
    return CrossCheck(catalog="posteriors", posterior="ab" * 32, sampler="emcee", n=2, n_not_converged=1,
                      quantile_shift_median={name: 0.03 for name in SUMMARISED}, c2st_median=0.51,
                      galaxies=tuple(galaxies), corners=tuple(corners))  # fmt: skip


@pytest.fixture(scope="module")
def pages(page_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crosscheck")
    write_crosscheck(folder, a_crosscheck())
    return {"report": page_file, "cross-check": folder / "crosscheck.html"}


@pytest.mark.parametrize("name", ["report", "cross-check"])
def test_a_narrow_window_scrolls_down_only(chromium, pages, name):
    chromium.open(pages[name].as_uri(), width=480)
    assert chromium.js("document.scrollingElement.scrollWidth") <= 480
    assert chromium.complaints() == ([], [])


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "cross-check"])
def test_axe_finds_nothing_wrong(chromium, pages, name, scheme):
    chromium.prefer(scheme)
    chromium.open(pages[name].as_uri())
    paper = chromium.js("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    found = chromium.violations()
    chromium.prefer("light")
    assert found == []
