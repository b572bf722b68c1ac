"""How far the training of a posterior is, epoch by epoch."""

from collections.abc import Callable
from pathlib import Path

from popcat.flows.training import History
from popcat.run.steps import Steps
from popcat.run.told import Told, tell

Report = Callable[[int, History], None]


def shown_epochs(steps: Steps, epochs: int, report: Report) -> Report:
    """`report` that also shows how many of its epochs a step has done."""

    def both(epoch: int, history: History) -> None:
        steps.at((epoch + 1) / epochs, _left_s(epochs, history))
        report(epoch, history)

    return both


def told_epochs(folder: Path | None, number: int, epochs: int, report: Report) -> Report:
    """`report` that also tells the waiting process of each epoch of a flow, wherever it is trained."""
    if folder is None:
        return report

    def both(epoch: int, history: History) -> None:
        facts = {"train": history.train[-1], "validation": history.validation[-1]}
        words = f"flow {number}: epoch {epoch + 1} of {epochs}, validation {history.validation[-1]:.3f} nats"
        tell(folder, number, Told(epoch + 1, words, _left_s(epochs, history), facts))
        report(epoch, history)

    return both


def _left_s(epochs: int, history: History) -> float:
    """Seconds of the epochs that are left, if each takes as long as the last one."""
    before = history.seconds[-2] if len(history.seconds) > 1 else 0.0
    return (epochs - len(history.seconds)) * (history.seconds[-1] - before)
