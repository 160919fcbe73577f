"""The training loop: the same seed gives the same weights, whether or not it was stopped."""

from __future__ import annotations

import csv
from functools import partial

import pytest
import torch

from diarbench.errors import InputError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.training import loop
from diarbench.training.loop import Losses, Settings, average, read_states, train
from diarbench.training.losses import PowersetLoss
from diarbench.training.tasks import Diarize
from diarbench.training.windows import Grid, Windows
from tests.training.small_data import HEAD, STRUCTURE, load, make_data


class StopNow(Exception):
    """As if somebody had pressed a key."""


class Watcher:
    """Notes what it is told; stops after some steps."""

    def __init__(self, stop=None):
        self.stop, self.losses, self.measures = stop, [], []

    def step(self, step, steps, parts):
        self.losses.append(parts["loss"])
        if step == self.stop:
            raise StopNow

    def validated(self, step, measures):
        self.measures.append((step, measures))


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    root = tmp_path_factory.mktemp("loop")
    parts = [load(make_data(root, name, recordings=6, seed=seed)) for seed, name in enumerate(("train", "dev"))]
    return [Windows([part], window=2.0, shift=1.0) for part in parts]


def learn(folder, windows, *, stop=None, steps=12, identity="a", every=0.0, **settings):
    torch.manual_seed(5)
    network = Eend(STRUCTURE, HeadShape(**HEAD), dropout=0.1)
    task = Diarize(network, PowersetLoss(4, 2), rate=3e-3, encoder=network.wavlm, encoder_rate=3e-3)
    grid = Grid(network.receptive_field, network.step, 4)
    chosen = Settings(steps, **{"batch": 4, "validate_every": 4, "log_every": 1, **settings})
    watcher = Watcher(stop)
    trained = train(
        task,
        lambda first: windows[0].shuffled(batch=chosen.batch, seed=1, grid=grid, first=first),
        partial(windows[1].once, batch=8, grid=grid),
        chosen,
        folder,
        identity=identity,
        watcher=watcher,
        checkpoint_every=every,
    )
    return trained, network.state_dict(), watcher


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def log_of(folder):
    with (folder / "log.csv").open() as file:
        return [(row["step"], row["kind"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, windows):
    folder = tmp_path_factory.mktemp("whole")
    return *learn(folder, windows, average=2), folder


@pytest.mark.parametrize("stops", [(1,), (4,), (5, 9), (11,), (12,)])
def test_stopped_and_gone_on_with_is_the_same(tmp_path, windows, whole, stops):
    trained, state, _, folder = whole
    for stop in stops:
        with pytest.raises(StopNow):
            learn(tmp_path, windows, stop=stop, average=2)
    again, found, watcher = learn(tmp_path, windows, average=2)
    assert same(found, state)
    assert again.chosen == trained.chosen
    assert again.measures == trained.measures
    assert log_of(tmp_path) == log_of(folder)
    assert len(watcher.losses) < 12 or stops == (1,)


def test_it_goes_on_from_the_last_checkpoint_where_that_is_older(tmp_path, windows, whole):
    with pytest.raises(StopNow):
        learn(tmp_path, windows, stop=7, every=1e9, average=2)  # checkpoints at validations alone: at step 4
    _, found, watcher = learn(tmp_path, windows, average=2)
    assert same(found, whole[1])
    assert len(watcher.losses) == 8
    assert log_of(tmp_path) == log_of(whole[3])


def test_another_seed_gives_other_weights(tmp_path, windows, whole):
    assert not same(learn(tmp_path, windows, average=2, seed=4)[1], whole[1])


def test_it_learns(tmp_path, windows):
    _, _, watcher = learn(tmp_path, windows, steps=150, validate_every=75, warm_up=10, schedule="cosine", average=0)
    assert sum(watcher.losses[-20:]) < 0.7 * sum(watcher.losses[:20])


def test_the_result_is_the_mean_of_the_best(tmp_path, windows):
    trained, state, watcher = learn(tmp_path, windows, average=2)
    ranked = sorted((measures["loss"], step) for step, measures in watcher.measures)
    assert trained.chosen == tuple(sorted(step for _, step in ranked[:2]))
    states = [read_states(tmp_path / f"best-{step}.pt")["state"] for step in trained.chosen]
    assert same(average(states), state)
    assert len(list(tmp_path.glob("best-*.pt"))) == 2


class Scripted:
    """Learns nothing; its validation losses are given, and count from a step on."""

    def __init__(self, losses, first):
        self.network, self.losses, self.first, self.step = torch.nn.Linear(2, 2), losses, first, 0

    def groups(self):
        return [{"params": list(self.network.parameters()), "lr": 1e-3}]

    def loss(self, batch, step):
        self.step = step + 1
        return Losses(self.network.weight.square().sum())

    def validate(self, batches):
        return {"loss": self.losses[self.step - 1]}

    def counts(self, step):
        return step >= self.first


def scripted(folder, windows, losses, *, first=0, stop=None, **settings):
    grid = Grid(400, 320, 2)
    return train(
        Scripted(losses, first),
        lambda number: windows[0].shuffled(batch=1, seed=1, grid=grid, first=number),
        lambda: iter(()),
        Settings(len(losses), batch=1, validate_every=1, patience=2, **settings),
        folder,
        identity="a",
        watcher=Watcher(stop),
        checkpoint_every=0.0,
    )


@pytest.mark.parametrize("average", [0, 1, 3])
def test_patience_ends_it_whether_or_not_states_are_averaged(tmp_path, windows, average):
    losses = [5.0, 4.0, 4.5, 3.0, 3.0, 3.5, 1.0, 1.0]
    assert scripted(tmp_path, windows, losses, average=average).steps == 6
    assert len(list(tmp_path.glob("best-*.pt"))) == average


@pytest.mark.parametrize("stop", [3, 5])
def test_patience_goes_on_counting_where_training_was_stopped(tmp_path, windows, stop):
    losses = [5.0, 3.0, 4.0, 2.0, 2.0, 2.0, 1.0]
    with pytest.raises(StopNow):
        scripted(tmp_path, windows, losses, stop=stop, average=0)
    assert scripted(tmp_path, windows, losses, average=0).steps == 6


def test_patience_counts_only_what_may_be_chosen(tmp_path, windows):
    """While a target grows losses rise: the low ones before say nothing of what comes after."""
    losses = [1.0, 2.0, 3.0, 5.0, 4.0, 4.5, 4.5, 3.0]
    assert scripted(tmp_path, windows, losses, first=4, average=0).steps == 7


def test_another_training_is_not_gone_on_with(tmp_path, windows):
    with pytest.raises(StopNow):
        learn(tmp_path, windows, stop=3)
    with pytest.raises(InputError, match=r"belongs to another training.*--steps.*--threads.*--device.*torch"):
        learn(tmp_path, windows, identity="b")


def test_a_damaged_checkpoint_is_said(tmp_path, windows):
    (tmp_path / "checkpoint.pt").write_bytes(b"\x80\x04nothing")
    with pytest.raises(InputError, match=r"checkpoint\.pt"):
        learn(tmp_path, windows)


def test_states_stay_until_no_checkpoint_names_them(tmp_path, windows, monkeypatch):
    """Killed between a validation and its checkpoint, a device that doesn't repeat itself may choose otherwise."""
    save = loop._Run.save

    def killed(run):
        if run.step == 3:
            raise StopNow
        save(run)

    monkeypatch.setattr(loop._Run, "save", killed)
    with pytest.raises(StopNow):
        scripted(tmp_path, windows, [5.0, 4.0, 3.0, 6.0], average=1)
    monkeypatch.undo()
    assert [step for _, step in read_states(tmp_path / "checkpoint.pt")["best"]] == [2]
    assert scripted(tmp_path, windows, [5.0, 4.0, 7.0, 6.0], average=1).chosen == (2,)
    assert [path.name for path in tmp_path.glob("best-*.pt")] == ["best-2.pt"]


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda weight: weight.sum() * float("nan"), "the loss is no number at step 1"),
        (lambda weight: (weight * 0).sum().sqrt(), "the gradient's norm is no number at step 1"),
    ],
    ids=["loss", "gradient"],
)
def test_what_is_no_number_ends_it(tmp_path, windows, loss, said):
    network = torch.nn.Linear(2, 2)

    class Broken:
        def __init__(self):
            self.network = network

        def groups(self):
            return [{"params": list(network.parameters()), "lr": 1.0}]

        def loss(self, batch, step):
            return Losses(loss(network.weight))

    source = partial(windows[0].shuffled, batch=1, seed=1, grid=Grid(400, 320, 2))
    with pytest.raises(InputError, match=said):
        train(
            Broken(),
            lambda first: source(first=first),
            lambda: iter(()),
            Settings(2),
            tmp_path,
            identity="a",
            watcher=Watcher(),
        )


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [0.5, 1, 1, 1, 1]), ("linear", [0.5, 1, 1, 0.75, 0.5]), ("cosine", [0.5, 1, 1, 0.8536, 0.5])],
)
def test_schedules(schedule, factors):
    settings = Settings(6, warm_up=2, schedule=schedule)
    assert [round(settings.factor(step), 4) for step in range(5)] == factors


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "cosin"},
        {"precision": "int8"},
        {"batch": 0},
        {"clip": 0.0},
        {"clip_quantile": 0.0},
        {"average": -1},
        {"seed": -1},
    ],
)
def test_settings_that_cant_be(wrong):
    with pytest.raises(InputError):
        Settings(10, **wrong)


def test_half_precision_learns_too(tmp_path, windows):
    _, state, watcher = learn(tmp_path, windows, precision="bf16")
    assert all(tensor.dtype != torch.bfloat16 for tensor in state.values())
    assert all(loss == loss for loss in watcher.losses)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(tmp_path, windows):
    torch.manual_seed(5)
    network = Eend(STRUCTURE, HeadShape(**HEAD))
    loss = PowersetLoss(4, 2).cuda()
    grid = Grid(network.receptive_field, network.step, 4)
    train(
        Diarize(network, loss),
        lambda first: windows[0].shuffled(batch=4, seed=1, grid=grid, first=first),
        partial(windows[1].once, batch=8, grid=grid),
        Settings(4, precision="fp16", validate_every=2),
        tmp_path,
        identity="a",
        watcher=Watcher(),
        device="cuda",
    )
    assert next(network.parameters()).is_cuda
