"""The public names for type checkers and editors: the same as in __init__.py, which a test holds."""

from popcat.catalog.export import export as export
from popcat.catalog.queries import Catalog as Catalog
from popcat.catalog.queries import open_catalog as open_catalog
from popcat.catalog.verification import verify as verify
from popcat.checks.calibration import calibrate as calibrate
from popcat.checks.compare import compare as compare
from popcat.columns import schema as schema
from popcat.demonstration import demo as demo
from popcat.diagnosis import doctor as doctor
from popcat.errors import PopcatError as PopcatError
from popcat.flows.settings import Training as Training
from popcat.forward.engines import build_ssp as build_ssp
from popcat.forward.grid import describe_ssp as describe_ssp
from popcat.forward.noise import Noise as Noise
from popcat.forward.spectrum import spectrum as spectrum
from popcat.galaxies import CLEAN as CLEAN
from popcat.galaxy_model import GalaxyModel as GalaxyModel
from popcat.inference.infer import infer as infer
from popcat.inference.one_galaxy import fit_galaxy as fit_galaxy
from popcat.inference.plan import plan as plan
from popcat.inference.reweight import reweight as reweight
from popcat.inference.survey_check import check_survey as check_survey
from popcat.io.drafting import draft_survey as draft_survey
from popcat.io.inspection import fit_noise as fit_noise
from popcat.io.reading import read_catalog as read_catalog
from popcat.pages.crosscheck import crosscheck as crosscheck
from popcat.pages.population import report_population as report_population
from popcat.pages.report import report as report
from popcat.pages.zero_points import fit_zero_points as fit_zero_points
from popcat.pipeline.fit import fit as fit
from popcat.population.fit import fit_population as fit_population
from popcat.population.fitted import Population as Population
from popcat.population.fitted import load_population as load_population
from popcat.population.sampling import compare_populations as compare_populations
from popcat.population.sampling import sample_population as sample_population
from popcat.posterior.library import simulate as simulate
from popcat.posterior.posterior import Posterior as Posterior
from popcat.posterior.posterior import load_posterior as load_posterior
from popcat.posterior.training import train as train
from popcat.survey import Survey as Survey
from popcat.survey import load_survey as load_survey

__version__: str
