"""What is seen of calls, and what it makes in MACs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import pytest

from diarbench.measure import Network, calls
from diarbench.measure.calls import CallRecorder, PipelineCounter, PipelineMacs

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

if torch.backends.quantized.engine == "none":
    QUANTIZED = pytest.mark.skip(reason="this build of torch has no quantized kernels")
else:
    QUANTIZED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def counted(
    modules: Mapping[str, Any], run: Callable[[], object], networks: Mapping[str, Network] | None = None
) -> PipelineMacs:
    recorder, counter = CallRecorder(modules), PipelineCounter(modules, networks)
    with recorder.recording() as seen:
        run()
    return counter.count(seen)


def on_meta(build: Callable[[], nn.Module]) -> Network:
    with torch.device("meta"):
        return Network(build(), lambda batch, seconds: ())


def test_each_call_counts_with_its_own_shape():
    vad, embedding = nn.Linear(4, 3), nn.Linear(3, 5)

    def run() -> None:
        vad(torch.zeros(7, 4))
        for batch in (2, 2, 1):
            embedding(torch.zeros(batch, 3))

    found = counted({"vad": vad, "embedding": embedding}, run)
    assert found == PipelineMacs({"vad": 7 * 12, "embedding": 5 * 15}, None)
    assert found.total == 84 + 75


def test_nothing_called_is_nothing_and_nothing_is_left_behind():
    network = nn.Sequential(nn.Linear(4, 3))
    found = counted({"net": network}, lambda: None)
    assert (found.by_stage, found.total, found.problem) == ({"net": 0}, 0, None)
    assert not network._forward_pre_hooks
    assert not network._forward_hooks
    assert not network[0]._forward_pre_hooks
    assert network(torch.zeros(1, 4)).shape == (1, 3)


def test_a_shape_is_run_once(monkeypatch: pytest.MonkeyPatch):
    network = nn.Linear(4, 3)
    recorder, counter = CallRecorder({"net": network}), PipelineCounter({"net": network}, None)
    runs = []
    count = calls.count_macs
    monkeypatch.setattr(calls, "count_macs", lambda *args, **more: runs.append(1) or count(*args, **more))
    for times in (3, 2):
        with recorder.recording() as seen:
            for batch in range(times):
                network(torch.zeros(batch % 2 + 1, 4))
        assert counter.count(seen).total == {3: 4 * 12, 2: 3 * 12}[times]
    assert len(runs) == 2


def test_what_another_network_calls_is_part_of_that_one():
    inner = nn.Linear(4, 3)
    outer = nn.Sequential(inner, nn.Linear(3, 2))

    def run() -> None:
        outer(torch.zeros(1, 4))
        inner(torch.zeros(1, 4))

    assert counted({"outer": outer, "inner": inner}, run).by_stage == {"outer": 18, "inner": 12}
    assert counted({"inner": inner, "outer": outer}, run).by_stage == {"outer": 18, "inner": 12}
    assert counted({"one": inner, "same": inner}, lambda: inner(torch.zeros(1, 4))).total == 12


def test_an_exception_inside_leaves_the_next_calls_counted():
    network = nn.Sequential(nn.Linear(4, 3))

    def run() -> None:
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 5))
        network(torch.zeros(1, 4))

    recorder = CallRecorder({"net": network})
    with recorder.recording() as seen:
        run()
    assert sum(seen.counts["net"].values()) == 2
    assert seen.problems == {}


def test_calls_from_several_threads():
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)

    class Waiting(nn.Module):
        def __init__(self, layer: nn.Module, barrier: threading.Barrier) -> None:
            super().__init__()
            self.layer, self.wait = layer, barrier.wait

        def forward(self, inputs: Any) -> Any:
            self.wait(5)
            return self.layer(inputs)

    barrier = threading.Barrier(2)
    modules = {"a": Waiting(first, barrier), "b": Waiting(second, barrier)}
    recorder = CallRecorder(modules)
    with recorder.recording() as seen:
        threads = [threading.Thread(target=module, args=(torch.zeros(1, 4),)) for module in modules.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [sum(counts.values()) for counts in seen.counts.values()] == [1, 1]
    assert seen.problems == {}


class Asked(nn.Module):
    """Takes all kinds of arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Any, times: int = 1, *, more: Any = None, name: str = "") -> Any:
        for _ in range(times):
            self.layer(inputs[0])
        return [self.layer(item) for item in (more or {}).values()]


def test_lists_dicts_and_values_are_made_anew():
    network = Asked()

    def run() -> None:
        network([torch.zeros(2, 4)], 3, more={"a": torch.zeros(5, 4)}, name="x")
        network((torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)))

    assert counted({"net": network}, run).by_stage == {"net": 6 * 12 + 5 * 12 + 12}


def test_an_argument_that_can_not_be_made_anew():
    network = Asked()
    other = nn.Linear(4, 3)

    def run() -> None:
        network([torch.zeros(2, 4)], more=type("Odd", (), {"values": lambda self: []})())
        other(torch.zeros(1, 4))

    found = counted({"net": network, "other": other}, run)
    assert found.by_stage == {"net": None, "other": 12}
    assert found.total is None
    assert found.problem == "net: TypeError: it is called with a Odd, which can't be made anew"


def test_odd_arguments_disturb_no_call():
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("asked for something")

    class Taking(nn.Linear):
        def forward(self, inputs: Any, odd: Any, others: Any) -> Any:
            return super().forward(inputs)

    network = Taking(4, 3)
    found = counted({"net": network}, lambda: network(torch.zeros(1, 4), Odd(), [{1, 2}, numpy.zeros(3)]))
    assert found.by_stage == {"net": None}
    assert "Odd, which can't be made anew" in str(found.problem)


def test_a_course_that_depends_on_values_is_no_crash():
    class Choosing(nn.Linear):
        def forward(self, inputs: Any) -> Any:
            return super().forward(inputs[inputs[:, 0] > 0])

    network = Choosing(4, 3)
    found = counted({"net": network}, lambda: network(torch.ones(2, 4)))
    assert found.by_stage == {"net": None}
    assert found.problem is not None
    assert found.problem.startswith("net: ")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_can_not_be_watched_makes_no_total():
    plain = nn.Linear(4, 3)
    scripted = torch.jit.script(plain)
    found = counted({"plain": plain, "scripted": scripted, "other": object()}, lambda: plain(torch.zeros(1, 4)))
    assert found.by_stage == {"plain": 12, "scripted": None, "other": None}
    assert found.total is None
    assert "scripted: calls of a RecursiveScriptModule can't be seen" in str(found.problem)
    assert "other: calls of a object can't be seen" in str(found.problem)


def test_submodules_that_are_called_by_themselves_are_noticed():
    """`model.encode(x)`, or the members of a ModuleList: calls of the whole would be counted as none."""
    network = nn.ModuleList([nn.Linear(4, 3)])
    recorder, counter = CallRecorder({"net": network}), PipelineCounter({"net": network}, None)
    for _ in range(2):  # and it stays known
        with recorder.recording() as seen:
            network[0](torch.zeros(1, 4))
        found = counter.count(seen)
        assert found.by_stage == {"net": None}
        assert found.problem == ("net: a Linear inside it was called by itself: modules() must name what is called")


@QUANTIZED
def test_quantized_networks_count_by_what_they_were_made_from():
    network = nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 5))
    smaller = torch.ao.quantization.quantize_dynamic(network, {nn.Linear, nn.LSTM})
    networks = {"net": on_meta(lambda: nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 5)))}
    macs = 6 * (12 + 20 * 8)
    assert counted({"net": smaller}, lambda: smaller(torch.zeros(6, 1, 4)), networks).total == macs
    alone = counted({"net": smaller}, lambda: smaller(torch.zeros(6, 1, 4)))
    assert alone.by_stage == {"net": None}
    assert "it is quantized, and the adapter has no networks()" in str(alone.problem)


def test_half_precision_counts_in_full():
    network = nn.Linear(4, 3).to(torch.bfloat16)
    run = lambda: network(torch.zeros(2, 4, dtype=torch.bfloat16))  # noqa: E731
    assert counted({"net": network}, run, {"net": on_meta(lambda: nn.Linear(4, 3))}).total == 24
    assert counted({"net": network}, run).total == 24


def test_copies_leave_the_running_network_alone():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    network.table = torch.ones(3)
    PipelineCounter({"net": network}, None)
    assert all(tensor.device.type == "cpu" for tensor in [*network.parameters(), *network.buffers(), network.table])
    assert network.training


def test_counting_gives_up_where_every_call_is_different(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calls, "_ALLOWANCE", 0.02)
    monkeypatch.setattr(calls, "count_macs", lambda *args, **more: time.sleep(0.004) or (1,))
    network = nn.Linear(4, 3)
    recorder, counter = CallRecorder({"net": network}), PipelineCounter({"net": network}, None)
    with recorder.recording() as seen:
        for batch in range(1, 50):
            network(torch.zeros(batch, 4))
    found = counter.count(seen)
    assert found.by_stage == {"net": None}
    assert "too many different ways" in str(found.problem)
    assert counter.count(seen, wall=1e6).total == 49  # allowed by what the calls took


def test_watching_is_cheap():
    network, inputs = nn.Linear(1, 1), torch.zeros(1)
    recorder = CallRecorder({"net": network})

    def best() -> float:
        times = []
        for _ in range(15):
            before = time.perf_counter()
            for _ in range(200):
                network(inputs)
            times.append((time.perf_counter() - before) / 200)
        return min(times)

    with torch.no_grad(), recorder.recording():
        network(inputs)
    with torch.no_grad():
        plain = best()
        with recorder.recording() as seen:
            watched = best()
    assert sum(seen.counts["net"].values()) == 3000
    assert watched - plain < 30e-6  # measured 3 µs; a busy machine is forgiven much


@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_what_is_compiled_is_not_compiled_anew():
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    class Doubling(nn.Linear):
        def forward(self, inputs: Any) -> Any:
            return super().forward(inputs) * 2

    whole = torch.compile(nn.Sequential(nn.Linear(4, 3)), backend=backend)
    inner = nn.Sequential(torch.compile(Doubling(4, 3), backend=backend))
    for module in (whole, inner):
        torch._dynamo.reset()
        with torch.no_grad():
            module(torch.zeros(6, 4))
        assert compiled
        compiled.clear()
        with torch.no_grad():
            found = counted({"net": module}, lambda module=module: module(torch.zeros(6, 4)))
        assert found == PipelineMacs({"net": 72}, None)
        assert not compiled  # neither while it was watched nor while it was counted
    in_place = nn.Sequential(nn.Linear(4, 3))
    in_place.compile(backend=backend)
    found = counted({"net": in_place}, lambda: in_place(torch.zeros(6, 4)))
    assert found == PipelineMacs({"net": None}, "net: calls of a module that was compiled in place can't be seen")
