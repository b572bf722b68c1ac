"""Which galaxies are shown: typical ones, a random sample, and unusual ones."""

import numpy as np
import pandas as pd
import pytest

from popcat.galaxies import FLAGS
from popcat.pages.galaxies import RANDOM, SCALARS, choose_table, pick_galaxies


def test_galaxies_are_chosen_by_kind_whatever_the_row_order(catalogue):
    frame = catalogue[1].select(list(SCALARS)).to_pandas()
    ok = frame[frame["status"] == "ok"]
    chosen = pick_galaxies(ok)
    assert chosen == pick_galaxies(ok.sample(frac=1, random_state=5))
    forming, quiescent, worst = (ok.set_index("object_id").loc[item] for item in chosen)
    assert forming["log_ssfr_p50"] > -11 > quiescent["log_ssfr_p50"]
    limit = np.quantile(ok["chi2_best"], 0.999)
    assert worst["chi2_best"] == ok.loc[ok["chi2_best"] <= limit, "chi2_best"].max()




def toy_frame(n=5000, flagged=40):
    rng = np.random.default_rng(2)
    flags = np.zeros(n, dtype=int)
    flags[:flagged] = FLAGS["high_chi2"]
    flags[flagged:flagged + 3] = FLAGS["unusual_noise"]
    return pd.DataFrame({"object_id": np.arange(n) + 10**18, "status": "ok", "flags": flags,
                         "chi2_best": rng.chisquare(5, n) + np.where(flags != 0, 50, 0)})  # fmt: skip


def test_two_thirds_of_the_table_are_drawn_at_random_and_the_rest_is_unusual():
    frame = toy_frame()
    found = choose_table(frame, {10**18 + 4000: "typical"}, rows=90)
    assert len(found.why) <= 90 and len(found.sample) == 60
    assert found.why[10**18 + 4000] == "typical"
    unusual = [why for item, why in found.why.items() if item not in found.sample]
    assert set(unusual) <= {"typical", "flag high_chi2", "flag unusual_noise"}
    assert unusual.count("flag unusual_noise") >= 2


def test_the_random_sample_is_of_all_galaxies_alike_and_of_no_row_order():
    frame = toy_frame()
    sample = choose_table(frame, {}, rows=900).sample
    assert sample == choose_table(frame.sample(frac=1, random_state=3), {}, rows=900).sample
    places = np.array(sorted(sample)) - 10**18
    # A uniform sample of 600: its mean lies within four standard errors of the middle.
    assert abs(places.mean() - 2500) < 4 * 5000 / np.sqrt(12 * 600)


def test_a_galaxy_without_a_posterior_has_no_route_and_is_unusual():
    frame = toy_frame(50, flagged=0).assign(route=pd.array(["flow"] * 50, dtype="string[pyarrow]"))
    frame.loc[3, ["status", "route"]] = ["no_photometry", pd.NA]
    assert choose_table(frame, {}, rows=6).why[10**18 + 3] in ("status no_photometry", RANDOM)


def test_a_small_catalogue_is_shown_whole():
    frame = toy_frame(50, flagged=5)
    found = choose_table(frame, {10**18: "typical"}, rows=90)
    assert set(found.why) == set(frame["object_id"]) == found.sample
    assert found.why[10**18] == "typical" and found.why[10**18 + 1] == RANDOM


@pytest.mark.parametrize("common", ["quality_cut", "missing_band"])
def test_what_most_galaxies_share_is_not_unusual(common):
    frame = toy_frame().assign(flags=lambda f: f["flags"] | FLAGS[common])
    assert f"flag {common}" not in choose_table(frame, {}, rows=300).why.values()
