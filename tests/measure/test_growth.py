"""MACs that are computed instead of counted: exactly those that would have been counted, whatever the network does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.measure import Network
from diarbench.measure.calls import CallRecorder, Calls, PipelineCounter
from diarbench.measure.growth import Growth, what_grew
from diarbench.measure.shapes import joined, shape_of_call, split

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402


def call(*shapes: tuple[int, ...]) -> Any:
    return shape_of_call(tuple(torch.empty(shape, device="meta") for shape in shapes), {})


class Counted:
    """A network whose MACs are a function of its sizes; it notes what was counted."""

    def __init__(self, macs: Callable[..., int]) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self._macs = macs
        self.growth = Growth(self)

    def __call__(self, shape: Any) -> int:
        self.sizes.append(split(shape).sizes)
        return self._macs(*split(shape).sizes)

    def after(self, numbers: Sequence[int]) -> list[int]:
        """MACs for batches of so many items, one after the other."""
        return [self.growth.macs(call((number, 4))) for number in numbers]


BATCHES = [32, 7, 19, 4, 1, 31, 23, 11, 64, 50, 33, 100, 77, 65, 3, 120]


def refusing(batch: int, width: int) -> int:
    if batch < 3:
        raise ValueError("too short")
    return 5 * batch + width


# What a network may do with its batch, and whether it is worth a rule.
WAYS: dict[str, tuple[Callable[[int, int], int], bool]] = {
    "linear": (lambda n, w: 12 * n * w, True),
    "affine": (lambda n, w: 7 * n + 1_000_003, True),
    "constant": (lambda n, w: 99, True),
    "very many": (lambda n, w: n * 10**15 + 1, True),
    "attention": (lambda n, w: 2 * n * n * w, False),
    "nearly linear": (lambda n, w: 1000 * n + (n * n) // 100, False),
    "padded to 8": (lambda n, w: 8 * -(-n // 8), False),
    "padded to 64": (lambda n, w: 64 * -(-n // 64), False),
    "padded to 32": (lambda n, w: 32 * -(-n // 32), False),
    "in pairs": (lambda n, w: n + n % 2, False),
    "another way beyond 60": (lambda n, w: 3 * n + (n - 60 if n > 60 else 0), False),
    "another way from 10": (lambda n, w: 3 * n if n < 10 else 4 * n, False),
    "logarithmic": (lambda n, w: n * n.bit_length(), False),
    "refuses small ones": (refusing, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_size_has_its_own_macs(way: str):
    macs, _ = WAYS[way]
    numbers = [number for number in BATCHES if way != "refuses small ones" or number > 2]
    counted = Counted(macs)
    assert counted.after(numbers) == [macs(number, 4) for number in numbers]
    assert counted.after(numbers[::-1]) == [macs(number, 4) for number in numbers[::-1]]
    assert len(set(counted.sizes)) == len(counted.sizes)  # nothing is counted twice


@pytest.mark.parametrize("way", [way for way, (_, even) in WAYS.items() if even])
def test_what_grows_evenly_is_not_counted_again(way: str):
    counted = Counted(WAYS[way][0])
    counted.after([32, 7])
    assert counted.sizes == [(32, 4), (7, 4)]  # two sizes are what most systems have: no rule is looked for
    counted.after([19])
    counted.sizes.clear()
    counted.after(list(range(1, 33)))
    assert counted.sizes == []
    counted.after([40])  # beyond what the rule was tried for
    assert (40, 4) in counted.sizes
    assert max(counted.sizes) == (64, 4)
    counted.sizes.clear()
    counted.after(list(range(33, 65)))
    assert counted.sizes == []


@given(
    st.lists(st.integers(-3, 3), min_size=4, max_size=4), st.lists(st.tuples(*[st.integers(1, 40)] * 2), max_size=12)
)
def test_two_things_that_grow(steps: list[int], numbers: list[tuple[int, int]]):
    """For every polynomial of degree 2, and one of degree 3 in one of them, learned ahead."""
    constant, batch, both, square = steps
    counted = Counted(lambda n, b, t: constant + batch * n + both * n * t + square * t * t)
    one, two, shorter = call((1,), (1, 8)), call((2,), (2, 8)), call((1,), (1, 6))
    counted.growth.learn(one, [(two, 16), (shorter, 0)])
    learned = len(counted.sizes)
    for n, t in numbers:
        assert counted.growth.macs(call((n,), (n, t))) == constant + batch * n + both * n * t + square * t * t
    if square == 0 and all(n <= 16 and t <= 8 for n, t in numbers):
        assert len(counted.sizes) == learned


def test_rules_hold_for_what_they_were_found_for_alone():
    """Same batch, but another width, another number type, or two batches that no longer agree."""
    counted = Counted(lambda *sizes: sum(place * size for place, size in enumerate(sizes, 1)) ** 2 % 1009)
    linear = Counted(lambda n, w: n * w * w)
    linear.after([1, 2, 3, 4, 5, 6, 7, 8])
    for n, w in ((3, 5), (8, 6), (7, 7)):
        assert linear.growth.macs(call((n, w))) == n * w * w
    both = Counted(lambda n, w, m: n * w + 10 * m)
    for n in (1, 2, 3, 4, 5):
        assert both.growth.macs(call((n, 3), (n,))) == 13 * n
    assert both.growth.macs(call((5, 3), (2,))) == 35
    for sizes in ((3, 4), (4, 3), (5, 5), (9, 4), (3, 9), (7, 7)):
        expected = (sizes[0] + 2 * sizes[1]) ** 2 % 1009
        assert counted.growth.macs(call(sizes)) == expected


def test_a_failing_count_is_the_caller_s():
    def failing(n: int, w: int) -> int:
        raise RuntimeError("no such size")

    counted = Counted(failing)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no such size"):
            counted.growth.macs(call((3, 4)))
    counted.growth.learn(call((1, 4)), [(call((2, 4)), 8), (call((2, 4, 1)), 8)])


def test_forms_and_what_grew():
    shape = shape_of_call(
        (torch.empty(2, 3), [torch.empty(4), 5], {"a": torch.empty(0, 2)}, None), {"mask": torch.empty(2), "name": "x"}
    )
    form = split(shape)
    assert form.sizes == (2, 3, 4, 0, 2, 2)
    assert joined(form) == shape
    assert split(shape_of_call((torch.empty(1, 3),), {})).form == split(shape_of_call((torch.empty(9, 3),), {})).form
    assert split(call((1, 3))).form != split(call((1, 3, 1))).form
    assert what_grew((2, 3, 2), (5, 3, 5)) == {0, 2}
    assert what_grew((2, 3, 2), (5, 3, 2)) == {0}
    assert what_grew((2, 3, 2), (5, 4, 5)) is None
    assert what_grew((2, 3), (0, 3)) is None
    assert what_grew((2, 3), (2, 3)) is None


class AcrossTheBatch(nn.Module):
    """Attention whose sequence is the batch: it grows with its square."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Any) -> Any:
        keys = self.layer(inputs)
        return torch.softmax(keys @ keys.T, dim=-1) @ inputs


class Recurrent(nn.Module):
    """(steps, batch, 4) and a number for each of the batch; a table is multiplied once per call."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(4, 3), nn.Linear(3, 5)
        self.register_buffer("table", torch.ones(6, 6))

    def forward(self, inputs: Any, lengths: Any) -> Any:
        states, _ = self.lstm(inputs)
        return self.linear(
            states[lengths - 1, torch.arange(len(lengths), device=lengths.device)]
        ), self.table @ self.table


@pytest.mark.parametrize("ahead", [False, True], ids=["as it comes", "learned ahead"])
@pytest.mark.parametrize("kind", ["across", "recurrent", "convolution"])
def test_real_networks(kind: str, ahead: bool, monkeypatch: pytest.MonkeyPatch):
    """The same numbers as a counter that knows no rules."""
    build, inputs = {
        "across": (AcrossTheBatch, lambda batch, steps: (torch.zeros(batch, 4),)),
        "recurrent": (
            Recurrent,
            lambda batch, steps: (torch.zeros(round(steps), batch, 4), torch.zeros(batch, dtype=torch.int64)),
        ),
        "convolution": (
            lambda: nn.Conv1d(1, 3, 5, stride=3),
            lambda batch, steps: (torch.zeros(batch, 1, 9 * round(steps)),),
        ),
    }[kind]
    with torch.device("meta"):
        networks = {"net": Network(build(), inputs, window=8.0)}
    modules = {"net": build().eval()}
    recorder, counter = CallRecorder(modules), PipelineCounter(modules, networks)
    if ahead:
        counter.learn()
    with torch.no_grad():
        for batch, steps in [
            (5, 8),
            (9, 8),
            (2, 3),
            (7, 8),
            (3, 8),
            (20, 8),
            (7, 5),
            (90, 8),
            (61, 8),
            (6, 30),
            (80, 11),
        ]:
            with recorder.recording() as seen:
                modules["net"](*inputs(batch, steps))
            assert counter.count(seen) == PipelineCounter(modules, networks).count(seen)
    if ahead and kind == "recurrent":
        monkeypatch.setattr("diarbench.measure.calls.count_macs", None)
        shape = shape_of_call(inputs(50, 7), {})
        alone = 50 * 7 * (4 * 3 * (4 + 3)) + 50 * 15 + 216
        assert counter.count(Calls({"net": {shape: 2}}, {})).total == 2 * alone  # type: ignore[dict-item]


def test_learning_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch):
    with torch.device("meta"):
        networks = {"net": Network(nn.Linear(4, 3), lambda batch, seconds: (torch.zeros(batch, 4),), 1.0)}
    monkeypatch.setattr("diarbench.measure.calls._LEARNING", -1.0)
    counter = PipelineCounter({"net": nn.Linear(4, 3)}, networks)
    counter.learn()
    shape = shape_of_call((torch.zeros(7, 4),), {})
    assert counter.count(Calls({"net": {shape: 1}}, {})).total == 84  # type: ignore[dict-item]


def test_inputs_that_can_not_be_made_are_no_crash():
    def inputs(batch: int, seconds: float) -> Any:
        raise ValueError("only on Sundays")

    counter = PipelineCounter({"net": nn.Linear(4, 3)}, {"net": Network(nn.Linear(4, 3), inputs)})
    counter.learn()
    shape = shape_of_call((torch.zeros(7, 4),), {})
    assert counter.count(Calls({"net": {shape: 1}}, {})).total == 84  # type: ignore[dict-item]


def test_learning_and_counting_change_no_random_number():
    """What a system draws afterwards is what it would have drawn."""
    with torch.device("meta"):
        networks = {"net": Network(nn.Linear(4, 3), lambda batch, seconds: (torch.rand(batch, 4),), 1.0)}
    before = torch.get_rng_state()
    counter = PipelineCounter({"net": nn.Identity()}, networks)
    counter.learn()
    shape = shape_of_call((torch.zeros(70, 4),), {})
    assert counter.count(Calls({"net": {shape: 1}}, {})).total == 840  # type: ignore[dict-item]
    assert torch.equal(torch.get_rng_state(), before)
