"""A training that was killed goes on to the very weights of one that was not; a foreign checkpoint is refused."""

import pytest
import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture
from popcat.flows.settings import Training
from popcat.flows.training import train_flow

ARCHITECTURE = Architecture(features=2, context=1, n_blocks=2, hidden=16, n_layers=1)
SETTINGS = Training(batch=64, learning_rate=1e-2, max_epochs=6, seed=5)


class KilledError(Exception):
    pass


def toy(n, seed):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(n, 1, generator=generator)
    return context + torch.randn(n, 2, generator=generator), context


def train(checkpoint=None, kill_in=None, settings=SETTINGS, architecture=ARCHITECTURE, in_shards=False, **options):
    def epoch_data(epoch):
        if epoch == kill_in:
            raise KilledError
        return (toy(250, 100 * epoch + i) for i in range(4)) if in_shards else toy(1000, epoch)

    size = 1000 if in_shards else None
    options = {"checkpoint": checkpoint, "epoch_size": size, **options}
    return train_flow(architecture, epoch_data, toy(500, 999), settings, **options)


def equal(flow, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in flow.state_dict().items())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "checkpoint.safetensors"


@pytest.fixture
def half_done(path):
    with pytest.raises(KilledError):
        train(path, kill_in=3)
    return path


@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("kill_in", [1, 4])
def test_a_resumed_training_ends_in_the_same_weights_bit_for_bit(path, kill_in, in_shards):
    undisturbed, history = train(in_shards=in_shards)
    with pytest.raises(KilledError):
        train(path, kill_in=kill_in, in_shards=in_shards)
    torch.rand(3)
    resumed, history_of_resumed = train(path, in_shards=in_shards)
    assert equal(resumed, undisturbed)
    assert history_of_resumed.validation == history.validation and history_of_resumed.train == history.train
    assert history_of_resumed.best_epoch == history.best_epoch
    assert history_of_resumed.seconds == sorted(history_of_resumed.seconds)


def test_only_the_missing_epochs_are_trained(half_done):
    seen = []
    train(half_done, report=lambda epoch, history: seen.append(epoch))
    assert seen == [3, 4, 5]


def test_a_finished_training_is_only_read(path):
    flow, _ = train(path)
    again, _ = train(path, kill_in=5, report=lambda epoch, history: pytest.fail("trained again"))
    assert equal(again, flow)


def test_patience_counts_across_the_interruption(path):
    impatient = SETTINGS.model_copy(update={"patience": 2, "learning_rate": 1e-9, "max_epochs": 30, "average": 0.0})
    _, history = train(settings=impatient)
    n_epoch = len(history.train)
    assert n_epoch < 30
    with pytest.raises(KilledError):
        train(path, kill_in=n_epoch - 1, settings=impatient)
    assert len(train(path, settings=impatient)[1].train) == n_epoch


@pytest.mark.parametrize("other", [
    {"settings": SETTINGS.model_copy(update={"seed": 6})},
    {"architecture": ARCHITECTURE.model_copy(update={"hidden": 32})},
    {"data_id": "another library"},
])  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused(half_done, other):
    name = next(iter(other)).removesuffix("_id")
    with pytest.raises(PopcatError, match=f"is of a training with other {name}: delete it"):
        train(half_done, **other)


@pytest.mark.parametrize("n_bytes", [0, 50, -1])
def test_a_damaged_checkpoint_is_refused(half_done, n_bytes):
    half_done.write_bytes(half_done.read_bytes()[:n_bytes])
    with pytest.raises(PopcatError, match=r"holds no checkpoint that popcat stored: .*delete it to start anew"):
        train(half_done)


def test_no_half_written_file_stays(half_done):
    assert [file.name for file in half_done.parent.iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PopcatError, match=r"cannot write .*checkpoint"):
        train(tmp_path / "file" / "checkpoint.safetensors")


def test_shards_need_to_know_their_number():
    with pytest.raises(PopcatError, match="training from shards: expected epoch_size"):
        train(in_shards=True, epoch_size=None)


def test_an_epoch_without_pairs_says_so():
    with pytest.raises(PopcatError, match="an epoch without a single step"):
        train_flow(ARCHITECTURE, lambda epoch: toy(0, 1), toy(10, 2), SETTINGS)
