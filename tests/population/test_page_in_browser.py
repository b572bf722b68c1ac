"""The page of a population in a browser: no wider than a narrow window, and clean by axe-core."""

import pytest
from browser import needs_axe, needs_chromium

from popcat.pages.population import report_population

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page_file(fitted, tmp_path_factory):
    return report_population(fitted, tmp_path_factory.mktemp("page") / "population.html")


def test_a_narrow_window_scrolls_down_only(chromium, page_file):
    chromium.open(page_file.as_uri(), width=480)
    assert chromium.js("document.scrollingElement.scrollWidth") <= 480
    assert chromium.complaints() == ([], [])


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(chromium, page_file, scheme):
    chromium.prefer(scheme)
    chromium.open(page_file.as_uri())
    found = chromium.violations()
    chromium.prefer("light")
    assert found == []
