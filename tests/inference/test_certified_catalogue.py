"""A catalogue says how each posterior was made: by which route, with what evidence; and others are made of it."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.catalog.queries import open_catalog
from popcat.checks.certify import Certified, effort_for
from popcat.checks.compare import compare, read_crosscheck
from popcat.checks.samplers import Chain
from popcat.columns import certificate_fields, posterior_schema
from popcat.errors import PopcatError
from popcat.files import footer_sha256
from popcat.galaxies import FLAGS, UNCERTIFIED
from popcat.inference.infer import infer as infer_posteriors
from popcat.inference.partition import infer_table
from popcat.inference.reweight import reweight
from popcat.pages.crosscheck import crosscheck
from popcat.posterior.posterior import load_posterior
from popcat.run.client import SYNCHRONOUS

DRAWS, N = 60, 12
CERTIFICATE = [field.name for field in certificate_fields()]


@pytest.fixture(scope="module")
def few(galaxies, tmp_path_factory):
    """Some galaxies, the last without photometry."""
    table = pq.read_table(galaxies).slice(20, N).to_pandas()
    table.loc[N - 1, [name for name in table.columns if name.startswith("modelflux")]] = np.nan
    path = tmp_path_factory.mktemp("few") / "few.parquet"
    table.to_parquet(path)
    return path


def infer(few, model, output, **options):
    options = {"draws": DRAWS, "rows_per_partition": 7, "client": SYNCHRONOUS} | options
    return infer_posteriors(few, model, output=output, **options)


def certified_draws(object_id, draws):
    """What a certification gives, of the flow's own draws."""
    n = len(object_id)
    numbers = {"log_evidence": -10.0 - 0.1 * (object_id % 7), "ess": np.full(n, 500.0), "efficiency": np.full(n, 0.5),
               "pareto_k": np.full(n, 0.3), "chi2_best": np.full(n, 1.0)}  # fmt: skip
    return Certified(draws.theta, draws.redshift, *numbers.values(), np.full(n, 1000, dtype=np.int32),
                     np.full(n, "flow+is", dtype=object), np.full(n, "", dtype=object))  # fmt: skip


@pytest.fixture(scope="module")
def certified(few, tiny_model, tmp_path_factory):
    """A catalogue of a model that certification finds perfect."""

    def perfect(posterior, data, n_draws, seed, *, effort):
        return certified_draws(data.object_id, posterior.sample(data, n_draws, seed))

    folder = tmp_path_factory.mktemp("certified") / "posteriors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("popcat.inference.partition.certify", perfect)
        infer(few, tiny_model, folder, certify=True)
    return folder


def frame_of(folder):
    return open_catalog(folder).to_table().to_pandas()


def test_without_a_correction_the_columns_say_so(few, tiny_model, tmp_path):
    infer(few, tiny_model, tmp_path / "out")
    frame = frame_of(tmp_path / "out")
    assert (frame["route"][:-1] == "flow").all() and frame["route"].isna().iloc[-1]
    assert not frame["certified"].any() and (frame["n_proposals"] == 0).all()
    assert frame[["log_evidence", "ess", "efficiency", "pareto_k", "route_why"]].isna().all().all()
    assert open_catalog(tmp_path / "out").require_manifest().certify is None


def test_a_real_correction_fills_them(few, tiny_model, tmp_path):
    infer(few, tiny_model, tmp_path / "out", certify=True, budget_ms=40.0)
    frame = frame_of(tmp_path / "out")
    ok = frame[frame["status"] == "ok"]
    assert set(ok["route"]) <= {"flow+is", "smc", "failed"}
    assert (ok["n_proposals"] >= 256).all() and ok[["ess", "efficiency", "chi2_best"]].notna().all().all()
    assert (ok["log_evidence"].isna() == (ok["route"] == "failed")).all()
    assert (ok.loc[ok["route"] == "failed", "route_why"] == "budget").all()
    failed = (ok["flags"] & FLAGS["correction_failed"]) != 0
    assert (failed == (ok["route"] == "failed")).all() and not ok.loc[failed, "clean"].any()
    assert open_catalog(tmp_path / "out").require_manifest().certify.budget_ms == 40.0


def test_only_galaxies_that_pass_every_test_are_certified(certified):
    frame = frame_of(certified)
    ok = frame["status"] == "ok"
    clean = (frame["flags"] & sum(FLAGS[name] for name in UNCERTIFIED)) == 0
    assert ok.sum() == N - 1 and (ok & clean).any()
    assert (frame["certified"] == (ok & clean)).all()
    assert (frame.loc[ok, "log_evidence"] <= -10).all() and frame["log_evidence"].isna().iloc[-1]


def test_the_schema_describes_the_certificate(certified, tiny_model):
    schema = open_catalog(certified).dataset.schema
    expected = posterior_schema(load_posterior(tiny_model).survey)
    assert schema.names == expected.names
    for name in CERTIFICATE:
        assert schema.field(name).type == expected.field(name).type
        assert schema.field(name).metadata[b"description"]


def test_a_limit_without_a_correction_is_refused():
    assert effort_for() is None and effort_for(True).budget_ms == 2000.0 and effort_for(True, 100.0).budget_ms == 100.0
    for limits in ({"budget_ms": 100.0}, {"target_ess": 50.0}, {"refit": True}):
        with pytest.raises(PopcatError, match=rf"{next(iter(limits))} did nothing: expected it with certify=True"):
            effort_for(**limits)


@pytest.mark.parametrize("limits", [{"budget_ms": 2.0}, {"budget_ms": 0.0}, {"target_ess": 0.0}])
def test_a_correction_that_cannot_be_paid_is_refused(limits):
    with pytest.raises(PopcatError, match=r"expected a budget of at least 4\.608 ms per galaxy"):
        effort_for(True, **limits)


# reweight


@pytest.fixture
def prior(tmp_path):
    path = tmp_path / "prior.toml"
    path.write_text("[tau_ism]\nfamily = 'exponential'\nscale = 0.5\n")
    return path


def test_a_reweighted_catalogue_keeps_rows_and_columns(certified, prior, tmp_path):
    reweight(certified, prior, output=tmp_path / "out", client=SYNCHRONOUS)
    before, after = frame_of(certified), frame_of(tmp_path / "out")
    assert list(before) == list(after)
    for name in ("object_id", "status", "flags", "flux_r", "chi2_best", "route"):
        pd.testing.assert_series_equal(before[name], after[name])
    ok = before["status"] == "ok"
    assert after.loc[~ok, "tau_ism_draws"].isna().all()
    shift = np.stack(after.loc[ok, "tau_ism_draws"]).mean() - np.stack(before.loc[ok, "tau_ism_draws"]).mean()
    assert shift < -0.2
    assert (after.loc[ok, "ess"] < DRAWS).all() and not after["certified"].any()
    manifest = open_catalog(tmp_path / "out").require_manifest()
    assert "exponential" in manifest.prior and manifest.reweighted_from == str(certified)
    assert manifest.posterior == open_catalog(certified).posterior


def test_reweighted_draws_are_draws_of_the_galaxy_with_their_quantiles(certified, prior, tmp_path):
    reweight(certified, prior, output=tmp_path / "out", client=SYNCHRONOUS)
    before, after = frame_of(certified), frame_of(tmp_path / "out")
    for i in np.flatnonzero(before["status"] == "ok"):
        pairs = set(zip(before["tau_ism_draws"][i], before["log_mstar_draws"][i], strict=True))
        assert set(zip(after["tau_ism_draws"][i], after["log_mstar_draws"][i], strict=True)) <= pairs
        np.testing.assert_allclose(after["log_mstar_p50"][i], np.median(after["log_mstar_draws"][i]), rtol=1e-6)


def test_a_function_may_be_the_new_prior(certified, tmp_path):
    def flat(draws):
        return np.zeros(draws["tau_ism"].shape)

    reweight(certified, flat, output=tmp_path / "out")
    ok = frame_of(certified)["status"] == "ok"
    # the training prior is flat, of the weights too
    np.testing.assert_allclose(frame_of(tmp_path / "out").loc[ok, "ess"], DRAWS, rtol=1e-3)


def test_a_catalogue_that_is_none_is_refused(tmp_path, prior):
    with pytest.raises(PopcatError, match="no catalogue"):
        reweight(tmp_path, prior, output=tmp_path / "out")


# compare


@pytest.fixture
def other(certified, tmp_path):
    """The same catalogue with other evidences: one more of each."""

    def change(edit):
        folder = tmp_path / "other"
        (folder / "_popcat").mkdir(parents=True)
        for path in sorted(certified.rglob("*")):
            if path.is_file() and path.suffix != ".parquet":
                (folder / path.relative_to(certified)).write_bytes(path.read_bytes())
        manifest = json.loads((folder / "_popcat" / "manifest.json").read_text())
        for part in manifest["parts"]:
            pq.write_table(edit(pq.read_table(certified / part["file"])), folder / part["file"])
            part["bytes"] = (folder / part["file"]).stat().st_size
            part["footer_sha256"] = footer_sha256(folder / part["file"])
        (folder / "_popcat" / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return change


def replaced(table, name, values):
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, type=table.schema.field(at).type))


def mapped(table, name, function):
    return replaced(table, name, [function(value) for value in table[name].to_pylist()])


def test_bayes_factors_are_differences_of_evidences(certified, other, tmp_path):
    second = other(lambda t: mapped(t, "log_evidence", lambda v: v and v - 1.0))
    found = compare(certified, second, output=tmp_path / "factors.parquet")
    frame = found.factors
    assert pq.read_table(tmp_path / "factors.parquet").num_rows == len(frame)
    n = int(frame["certified"].sum())
    assert len(frame) == N - 1 and found.n == n > 0 and found.n_not_certified == N - 1 - n
    np.testing.assert_allclose(frame["log_bayes_factor"], 1.0, rtol=1e-5)
    assert found.sum == pytest.approx(n, rel=1e-5) and found.median == pytest.approx(1.0, rel=1e-5)
    assert compare(second, certified).sum == pytest.approx(-n, rel=1e-5)


def test_a_model_against_itself_is_even(certified):
    assert compare(certified, certified).sum == 0.0


REFUSED = {
    "no evidences": (lambda t: replaced(t, "log_evidence", [None] * t.num_rows), "has no evidences.*--certify"),
    "other fluxes": (lambda t: mapped(t, "flux_r", lambda v: v and 1.1 * v), "differ in flux_r"),
    "other bands": (lambda t: t.drop_columns(["flux_u", "flux_err_u"]), "only one of .* has flux"),
    "other galaxies": (lambda t: mapped(t, "object_id", lambda v: -1 - v), "no galaxy in common"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused(certified, other, case):
    edit, message = REFUSED[case]
    with pytest.raises(PopcatError, match=message):
        compare(certified, other(edit))


# crosscheck


def same(galaxy, start, seed, *, sampler, max_steps):
    """An independent sampler that finds the catalogue's own draws, and many more like them."""
    random = np.random.default_rng(seed)
    noise = 1e-3 * random.normal(size=(4000, start.shape[1]))
    return Chain(start[random.integers(len(start), size=4000)] + noise, True, 4000.0, 1000, 10.0)


def shifted(galaxy, start, seed, **options):
    chain = same(galaxy, start, seed, **options)
    return Chain(chain.w + 1.0, True, 4000.0)


def test_a_sampler_that_agrees_finds_no_shift(certified, tmp_path, monkeypatch):
    monkeypatch.setattr("popcat.checks.compare.sample_galaxy", same)
    found = crosscheck(certified, 4, output=tmp_path / "out")
    assert found.n == 4 and found.n_not_converged == 0
    assert set(found.quantile_shift_median) == {"log_mstar", "log_sfr_1gyr", "tau_ism"}
    assert max(found.quantile_shift_median.values()) < 0.1
    assert read_crosscheck(tmp_path / "out") == found.model_copy(update={"corners": ()})
    page = (tmp_path / "out" / "crosscheck.html").read_text()
    assert page.count("data:image/png") == 4 and all(str(one.object_id) in page for one in found.galaxies)
    assert "default-src 'none'" in page and "script-src" not in page and "<script" not in page
    assert len(repr(found)) < 400


def test_a_sampler_that_disagrees_shows(certified, monkeypatch):
    monkeypatch.setattr("popcat.checks.compare.sample_galaxy", shifted)
    found = crosscheck(certified, 3)
    assert found.quantile_shift_median["tau_ism"] > 0.2
    assert found.c2st_median > 0.7


def test_a_sampler_that_did_not_converge_does_not_count(certified, monkeypatch):
    def lost(*args, **options):
        return Chain(same(*args, **options).w, False, 3.0)

    monkeypatch.setattr("popcat.checks.compare.sample_galaxy", lost)
    found = crosscheck(certified, 2)
    assert found.n == 0 and found.n_not_converged == 2 and found.c2st_median is None


def test_the_same_galaxies_are_chosen_again_and_others_with_another_seed(certified, monkeypatch):
    monkeypatch.setattr("popcat.checks.compare.sample_galaxy", same)

    def chosen(seed):
        return [one.object_id for one in crosscheck(certified, 4, seed=seed).galaxies]

    first, again, other = chosen(0), chosen(0), chosen(1)
    assert first == again != other


@pytest.mark.slow
def test_emcee_is_an_independent_sampler(certified, tmp_path):
    pytest.importorskip("emcee")
    found = crosscheck(certified, 1, output=tmp_path / "out", max_steps=3000)
    assert found.n + found.n_not_converged == 1


# galaxies made wrong on purpose


def off_by_half_a_magnitude(frame):
    return frame.assign(**{name: 10**0.2 * frame[name] for name in ("flux_r", "flux_err_r")})


def understated(frame):
    return frame.assign(**{name: frame[name] / 5 for name in frame if name.startswith("flux_err_")})


def star(frame):
    """u - g, g - r, r - i, i - z of an M dwarf, with each band's relative error."""
    flux = {"r": frame["flux_r"], "g": frame["flux_r"] * 10 ** (-0.4 * 1.4), "i": frame["flux_r"] * 10 ** (0.4 * 1.2)}
    flux |= {"u": flux["g"] * 10 ** (-0.4 * 2.5), "z": flux["i"] * 10 ** (0.4 * 0.7)}
    columns = {f"flux_{band}": values.astype("float32") for band, values in flux.items()}
    columns |= {f"flux_err_{band}": (frame[f"flux_err_{band}"] / frame[f"flux_{band}"].abs() * values).astype("float32")
                for band, values in flux.items()}  # fmt: skip
    return frame.assign(**columns)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [off_by_half_a_magnitude, understated, star])
def test_galaxies_made_wrong_end_flagged_and_not_certified(galaxies, spoil):
    from popcat.io.photometry import to_photometry

    try:
        posterior = load_posterior("sdss")
    except PopcatError as error:
        pytest.skip(str(error))
    frame = to_photometry(pd.read_parquet(galaxies), posterior.survey)
    frame = frame[frame["flags"] == 0].iloc[::6].reset_index(drop=True)
    effort = effort_for(True, 400.0)
    good, wrong = (infer_table(part, posterior, 100, 0, effort) for part in (frame, spoil(frame)))
    assert np.mean(good["certified"].to_numpy()) > 0.8
    assert not wrong["certified"].to_numpy().any()
    assert np.all(wrong["flags"].to_numpy() & sum(FLAGS[name] for name in UNCERTIFIED))
