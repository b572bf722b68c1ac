"""How far a flow of a population is: step, loss, distance from the data in units of sampling noise, time left."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from popcat.flows.training import History
from popcat.population.hierarchical import TAKEN
from popcat.population.settings import PopulationSettings
from popcat.run.told import Told, tell

HIERARCHICAL, START, WASSERSTEIN = "hierarchical", "start", "wasserstein"
"""The stages of a flow: what it learns from."""
_WORDS = {HIERARCHICAL: "posteriors", START: "starting distribution", WASSERSTEIN: "photometry"}


def draws_until(stage: str, settings: PopulationSettings) -> np.ndarray:
    """Draws that a stage takes up to each of its steps, (steps + 1,).

    >>> draws_until(START, PopulationSettings(start_steps=2, start_batch=100)).tolist()
    [0, 100, 200]
    """
    if stage == WASSERSTEIN:
        first, last = settings.batch
        progress = np.arange(settings.steps) / max(settings.steps - 1, 1)
        batches = first * (last / first) ** progress
        each = batches if settings.loss == "sliced" else np.full(settings.steps, settings.sinkhorn_batch)
    else:
        one = settings.start_batch if stage == START else settings.galaxies * TAKEN
        each = np.full(settings.start_steps, one)
    return np.concatenate([[0], np.cumsum(np.rint(each).astype(int))])


def draws_of(stages: Sequence[str], settings: PopulationSettings) -> int:
    """Draws of all steps of a flow: how much work it is."""
    return int(sum(draws_until(stage, settings)[-1] for stage in stages))


class Teller:
    """Tells how far a flow is, after each validation.

    folder, index : where, and as which job. name : of the flow, for its user. noise : the score of a flow whose
    photometry differs from the data by sampling noise alone; None where a score is no distance.
    """

    def __init__(self, folder: Path, index: int, name: str, stages: Sequence[str], settings: PopulationSettings):
        self.folder, self.index, self.name = folder, index, name
        self.draws = {stage: draws_until(stage, settings) for stage in stages}

    def say(self, words: str) -> None:
        """A word before the first step."""
        tell(self.folder, self.index, Told(0, f"{self.name}: {words}"))

    def report(self, stage: str, noise: float | None) -> Callable[[int, History], None]:
        """What `popcat.flows.training.fit` tells after each validation of a stage."""
        stages = list(self.draws)
        draws, total = self.draws[stage], sum(int(one[-1]) for one in self.draws.values())
        before = sum(int(self.draws[one][-1]) for one in stages[: stages.index(stage)])

        def report(epoch: int, history: History) -> None:
            step, score, loss = history.step[-1], history.validation[-1], history.train[-1]
            done = before + int(draws[min(step, len(draws) - 1)])
            since, earlier = (history.seconds[-2], history.step[-2]) if len(history.step) > 1 else (0.0, 0)
            rate = (draws[step] - draws[earlier]) / max(history.seconds[-1] - since, 1e-9)
            facts = {"stage": stage, "step": step, "steps": len(draws) - 1, "loss": loss, "score": score}
            words = f"{self.name}, {_WORDS[stage]}: step {step:,} of {len(draws) - 1:,}, loss {loss:.4g}"
            if noise is None:
                words += f", score {score:.4g}"
            else:
                facts["times_noise"] = score / noise
                words += f", {score / noise:.1f} times sampling noise"
            tell(self.folder, self.index, Told(done, words, float((total - done) / max(rate, 1e-9)), facts))

        return report
