"""A measuring session: processes side by side, taking turns; then what their times say."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from diarbench.bench.client import Client, SystemFailedError
from diarbench.bench.plan import LARGEST, Wanted
from diarbench.bench.results import encoder_row, pipeline_facts, system_json
from diarbench.bench.rounds import calls_per_turn, take_turns
from diarbench.execute.messages import recording_to_json
from diarbench.measure.beside import look as look_beside
from diarbench.measure.beside import marked
from diarbench.measure.pressure import Look, between, look, worst_of
from diarbench.measure.ratios import Ratio, noise_floor, speedup
from diarbench.types import Seconds

if TYPE_CHECKING:
    from diarbench.plan import Prepared

_LOADING = 1800.0  # s: may mean reading gigabytes
_ENCODING = 3600.0  # s for one turn of an encoder
_WARM_CALLS = 2  # after the first call and before any that counts
_LARGEST_BATCH = 4096

# A length at which memory is measured is left out where the call would take longer than this, by the real-time factor.
LONGEST_CALL = 1800.0  # s


class Progress(Protocol):
    """What shows how far a session is. It is told between calls, and is to do nothing while one is timed."""

    def step(self, what: str, total: int) -> None:
        """The next step begins; it has so many parts. 0: there are none, or nobody knows how many."""

    def part(self, what: str) -> None:
        """The next part begins: the system at work."""

    def advance(self) -> None:
        """A part is done."""


@dataclass
class Measured:
    """What is known of one system so far, or of the control."""

    prepared: Prepared
    error: str | None = None
    load: dict[str, Any] = field(default_factory=dict)
    first: Seconds | None = None
    warm: list[Seconds] = field(default_factory=list)  # per call, one per round
    stages: dict[str, Seconds] = field(default_factory=dict)  # over all rounds
    called: int = 0  # calls over all rounds
    joules: float = 0.0  # over all rounds in which the counter could be read
    metered: int = 0  # calls in these
    encoder: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] | None = None
    memory: list[dict[str, Any]] = field(default_factory=list)
    latency: dict[str, Any] | None = None


def measure(wanted: Wanted, *, machine: str, facts: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Time the systems against each other; what is found, as docs/measuring.md describes it.

    A system that fails leaves the others; its `error` says why. Nothing is stored here.
    """
    started = _now()
    with marked() as mark:
        session = _Session(wanted, facts, progress, mark)
        alone = look_beside(mark)
        session.run()
        beside = [] if alone.alone and look_beside(mark) == alone else ["another diarbench ran on this machine"]
    return {
        "session": f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}",
        "started": started,
        "ended": _now(),
        "machine": machine,
        "device": wanted.device,
        "threads": wanted.threads,
        "order": wanted.order,
        "rounds": wanted.rounds,
        "seed": wanted.seed,
        "weights": wanted.weights,
        "baseline": wanted.baseline,
        "audio": session.audio(),
        "noise": session.noise(beside),
        "systems": session.systems(),
    }


class _Session:
    """Processes of all systems, and a second one of the baseline: the control."""

    def __init__(self, wanted: Wanted, facts: Mapping[str, Any], progress: Progress, mark: Path | None) -> None:
        self._wanted, self._facts, self._progress, self._mark = wanted, facts, progress, mark
        self._known = {prepared.spec.name: Measured(prepared) for prepared in wanted.systems}
        self._control = f"{wanted.baseline} (control)"
        self._known[self._control] = Measured(self._known[wanted.baseline].prepared)
        self._clients: dict[str, Client] = {}
        self._seconds = sum(recording.duration for recording in wanted.recordings)
        self._patience = 600.0 + 20.0 * self._seconds  # s for one call of a whole system
        self._looks: list[tuple[Look, Look]] = []
        self._with_encoder: list[str] = []
        self._encoder_noise: list[dict[str, Any]] = []

    def run(self) -> None:
        """All of it."""
        with contextlib.ExitStack() as stack:
            self._load(stack)
            if self._wanted.weights and self._wanted.recordings:
                self._time_pipelines()
                self._stream()
            if self._wanted.batches:
                self._find_encoders()
            for batch in self._wanted.batches:
                self._time_encoders(batch)
            self._count()
        self._measure_memory()

    def audio(self) -> dict[str, Any] | None:
        """What was listened to; None where nothing was."""
        if not self._wanted.recordings:
            return None
        names = [recording.id for recording in self._wanted.recordings]
        return {
            "dataset": self._wanted.dataset,
            "digest": self._wanted.digest,
            "recordings": names,
            "seconds": self._seconds,
        }

    def noise(self, beside: Sequence[str]) -> dict[str, Any]:
        """How far two copies of the baseline came apart, and what else the machine did."""
        control = self._ratio(self._control, lambda known: known.warm)
        found = [between(before, after) for before, after in self._looks]
        worst = worst_of(found)
        reasons = [*beside, *(worst.reasons if worst else ())]
        return {
            "control": self._wanted.baseline,
            "ratio": control._asdict() if control else None,
            "floor": noise_floor(control) if control else None,
            "error": self._known[self._control].error,
            "encoder": self._encoder_noise,
            "busy": bool(reasons),
            "reasons": reasons,
            "others_cores": worst.others if worst else None,
            "pressure": worst.pressure if worst else None,
            "steal": worst.steal if worst else None,
            "before": self._looks[0][0].facts() if self._looks else None,
            "after": self._looks[-1][1].facts() if self._looks else None,
        }

    def systems(self) -> dict[str, Any]:
        """By name, what was found of each."""
        control = self._ratio(self._control, lambda known: known.warm)
        floor = noise_floor(control) if control else None
        found = {}
        for name, known in self._known.items():
            if name != self._control:
                ratio = self._ratio(name, lambda known: known.warm) if name != self._wanted.baseline else None
                facts = pipeline_facts(known, self._seconds, ratio, floor)
                found[name] = system_json(known, self._wanted.device, facts)
        return found

    def _load(self, stack: contextlib.ExitStack) -> None:
        """One process after the other, so that loading one is not slowed by another."""
        wanted = self._wanted
        recordings = [recording_to_json(recording) for recording in wanted.recordings]
        self._progress.step("loading", len(self._known))
        for name, known in self._known.items():
            with self._part(name), self._caught(name):
                if wanted.weights and known.prepared.problem is not None:
                    raise SystemFailedError(known.prepared.problem)
                client = stack.enter_context(self._start(known.prepared))
                self._clients[name] = client
                known.load = client.ask("load", _LOADING, weights=wanted.weights)
                if wanted.weights and recordings:
                    client.ask("hear", _LOADING, recordings=recordings)

    def _start(self, prepared: Prepared) -> Client:
        return Client(
            prepared,
            device=self._wanted.device,
            threads=self._wanted.threads,
            machine=self._facts,
            mark=self._mark,
        )

    def _time_pipelines(self) -> None:
        patience = self._patience
        calls: dict[str, int] = {}
        self._progress.step("first calls", len(self._clients))
        for name, client in list(self._clients.items()):
            known = self._known[name]
            with self._part(name), self._caught(name):
                known.first = client.ask("pipeline", patience, calls=1)["walls"][0]
                warm = client.ask("pipeline", _WARM_CALLS * patience, calls=_WARM_CALLS)["walls"][-1]
                calls[name] = calls_per_turn(warm, self._wanted.turn)

        def turn(name: str) -> Seconds | None:
            known = self._known[name]
            try:
                answer = self._clients[name].ask("pipeline", calls[name] * patience, calls=calls[name])
            except SystemFailedError as error:
                self._fail(name, error)
                return None
            known.called += calls[name]
            for stage, seconds in answer["stages"].items():
                known.stages[stage] = known.stages.get(stage, 0.0) + seconds
            if answer["joules"] is not None:  # else the counter began anew in this turn, or there is none
                known.joules += answer["joules"]
                known.metered += calls[name]
            return float(sum(answer["walls"])) / calls[name]

        for name, times in self._take_turns("whole systems", list(calls), turn).items():
            self._known[name].warm = times

    def _find_encoders(self) -> None:
        """Which systems have one. To have none is a failure only where nothing else is asked for."""
        self._progress.step("encoders", 0)
        for name, client in list(self._clients.items()):
            with self._part(name), self._caught(name):
                lacks = client.ask("has_encoder", _LOADING)["lacks"]
                if lacks is None:
                    self._with_encoder.append(name)
                elif not self._wanted.weights:
                    raise SystemFailedError(lacks)

    def _time_encoders(self, batch: int | str) -> None:
        """All encoders on the same batch: with LARGEST, the largest that the GPU takes of every one of them."""
        if not self._with_encoder:
            return
        window = self._wanted.window
        size = self._largest_batch() if batch == LARGEST else int(batch)
        problems: dict[str, str] = {}
        calls: dict[str, int] = {}
        self._progress.step(f"encoders, batch {size}, first calls", len(self._with_encoder))
        for name in self._with_encoder:
            client = self._clients[name]
            with self._part(name):
                try:
                    client.ask("encode", _ENCODING, batch=size, window=window, calls=1)
                    warm = client.ask("encode", _ENCODING, batch=size, window=window, calls=1)["walls"][-1]
                    calls[name] = calls_per_turn(warm, self._wanted.turn)
                except SystemFailedError as error:
                    problems[name] = str(error)

        def turn(name: str) -> Seconds | None:
            try:
                answer = self._clients[name].ask(
                    "encode", _ENCODING, batch=size, window=window, calls=calls[name]
                )  # fmt: skip
            except SystemFailedError as error:
                problems[name] = str(error)
                return None
            return float(median(answer["walls"]))

        times = self._take_turns(f"encoders, batch {size}", list(calls), turn)
        base = times.get(self._wanted.baseline)
        ratios = {name: speedup(base, found) for name, found in times.items()} if base else {}
        control = ratios.get(self._control)
        floor = noise_floor(control) if control else None
        if base:
            self._encoder_noise.append(
                {
                    "batch": size,
                    "window": window,
                    "ratio": control._asdict() if control else None,
                    "floor": floor,
                    "error": problems.get(self._control, self._known[self._control].error),
                }
            )
        for name in self._with_encoder:
            ratio = ratios.get(name) if name != self._wanted.baseline else None
            row = encoder_row(size, window, times.get(name), ratio, floor, problems.get(name))
            self._known[name].encoder.append(row)

    def _largest_batch(self) -> int:
        clients = {name: self._clients[name] for name in self._with_encoder}
        self._progress.step("largest batch", 0)
        for client in clients.values():
            with contextlib.suppress(SystemFailedError):  # it will say so when it is asked again
                client.ask("encode", _ENCODING, batch=1, window=self._wanted.window, calls=1)  # gives its memory back
        found = [_LARGEST_BATCH]
        for name, client in clients.items():
            with self._part(name), contextlib.suppress(SystemFailedError):
                found.append(
                    client.ask("largest", _ENCODING, window=self._wanted.window, most=_LARGEST_BATCH)["batch"]
                )  # fmt: skip
        return min(found)

    def _take_turns(
        self, what: str, names: Sequence[str], turn: Callable[[str], Seconds | None]
    ) -> dict[str, list[Seconds]]:
        if not names:
            return {}
        self._progress.step(what, self._wanted.rounds * len(names))

        def shown(name: str) -> Seconds | None:
            with self._part(name):
                return turn(name)

        before = look()
        times = take_turns(
            names,
            shown,
            rounds=self._wanted.rounds,
            seed=self._wanted.seed,
            interleaved=self._wanted.order == "interleaved",
        )
        self._looks.append((before, look()))
        return times

    def _stream(self) -> None:
        streaming = [name for name in self._clients if self._known[name].load.get("streams")]
        self._progress.step("streaming", len(streaming))
        for name in streaming:
            with self._part(name), self._caught(name):
                if name != self._control:
                    patience = 1800.0 + 50.0 * self._seconds
                    self._known[name].latency = self._clients[name].ask("stream", patience)

    def _count(self) -> None:
        self._progress.step("counting", len(self._clients))
        for name, client in self._clients.items():
            with self._part(name):
                if name != self._control:
                    try:
                        self._known[name].counts = client.ask("counts", _ENCODING + self._patience)
                    except SystemFailedError as error:  # what was timed stays true
                        self._known[name].counts = {"problem": str(error)}

    def _measure_memory(self) -> None:
        """Each length in a process of its own: what an allocator keeps would hide in the next."""
        wanted = self._wanted
        if not (wanted.minutes and wanted.weights and wanted.recordings):
            return
        names = [name for name, known in self._known.items() if name != self._control and known.error is None]
        recordings = [recording_to_json(recording) for recording in wanted.recordings]
        self._progress.step("memory", len(names) * len(wanted.minutes))
        for name in names:
            known = self._known[name]
            speed = median(known.warm) / self._seconds if known.warm and self._seconds > 0 else 0.0
            for minutes in wanted.minutes:
                expected = speed * minutes * 60.0
                with self._part(f"{name}, {minutes:g} min"):
                    if expected > LONGEST_CALL:
                        reason = f"left out: one call would take about {expected / 60:.0f} minutes"
                        known.memory.append({"minutes": minutes, "error": reason})
                    else:
                        known.memory.append(self._memory_at(known.prepared, recordings, minutes))

    def _memory_at(self, prepared: Prepared, recordings: list[dict[str, Any]], minutes: float) -> dict[str, Any]:
        try:
            with self._start(prepared) as client:
                client.ask("load", _LOADING, weights=True)
                client.ask("hear", _LOADING, recordings=recordings)
                return {**client.ask("memory", 600.0 + 20.0 * 60.0 * minutes, minutes=minutes), "error": None}
        except SystemFailedError as error:
            return {"minutes": minutes, "error": str(error)}

    def _ratio(self, name: str, times: Callable[[Measured], list[Seconds]]) -> Ratio | None:
        base, own = times(self._known[self._wanted.baseline]), times(self._known[name])
        return speedup(base, own) if base and own else None

    @contextlib.contextmanager
    def _part(self, what: str) -> Iterator[None]:
        """A part of a step: named before it begins, counted when it is over."""
        self._progress.part(what)
        yield
        self._progress.advance()

    @contextlib.contextmanager
    def _caught(self, name: str) -> Iterator[None]:
        """A failure of this system is noted, and it takes no further part."""
        try:
            yield
        except SystemFailedError as error:
            self._fail(name, error)

    def _fail(self, name: str, error: SystemFailedError) -> None:
        self._known[name].error = str(error)
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
