"""What a system costs, as it is stored, read back into types; knows neither boards nor where the files lie.

A measuring session runs several systems in turn on one machine; docs/results.md documents its file, key by key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args

from diarbench.errors import StoreError
from diarbench.types import Complexity, HeldWeights, PartSize, Seconds, StageSize, Verdict

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How many times faster than the baseline: the median of ratios within rounds, and the interval around it."""

    median: float
    low: float
    high: float
    verdict: Verdict | None  # against the noise floor of its session; None: it has none, so nothing can be said


@dataclass(frozen=True, slots=True)
class EncoderSpeed:
    """The encoder alone on windows of one length."""

    batch: int  # windows at a time
    window: Seconds
    wall: Seconds | None  # of one call; None where it could not be measured, and `error` says why
    rtf: float | None
    speedup: SpeedUp | None  # None: of the baseline itself
    error: str | None


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage of the pipeline, in a pass made for this."""

    seconds: Seconds
    share: float  # of the whole call, from 0 to 1
    bound: float | None  # Amdahl's: how many times faster the pipeline would be if the stage cost nothing


@dataclass(frozen=True, slots=True)
class MemoryAt:
    """Peak memory on a recording of one length."""

    minutes: float
    resident: int | None  # bytes; None where it could not be measured, and `error` says why
    cuda: int | None  # bytes; None without a GPU
    error: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a fresh process, in bytes."""

    loaded: int | None  # resident, once the system is built
    lengths: tuple[MemoryAt, ...]
    growth_per_hour: Mapping[str, float | None]  # of recording, in bytes beyond the signal: "resident" and "cuda"


@dataclass(frozen=True, slots=True)
class Energy:
    """As the hardware counts it."""

    joules_per_hour: float  # of audio
    source: str  # "nvml" or "rapl"


@dataclass(frozen=True, slots=True)
class Latency:
    """Of a system that works online."""

    algorithmic: Seconds | None  # chunk and look-ahead, C + R
    p50: Seconds | None  # time to compute a chunk: the median, and percentiles
    p90: Seconds | None
    p99: Seconds | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One system in one measuring session."""

    session: str
    started: str  # ISO 8601
    baseline: str  # the system that speed-ups are taken against
    rounds: int | None
    weights: bool  # whether they were the real ones; otherwise only encoders are measured, with random weights
    audio: str  # the dataset that it was measured on
    audio_seconds: Seconds | None
    noise: Mapping[str, Any]  # of the control and the machine, as stored
    floor: float | None  # of ratios: what lies closer to 1 is noise
    busy: bool  # whether other work was seen on the machine
    reasons: tuple[str, ...]  # why it counts as busy
    rtf: float | None = None
    imported: Seconds | None = None
    load: Seconds | None = None
    first: Seconds | None = None  # the first call
    warm: tuple[Seconds, ...] = ()  # later calls, by round
    speedup: SpeedUp | None = None  # None: of the baseline itself
    encoder: tuple[EncoderSpeed, ...] = ()
    stages: Mapping[str, StageCost] = field(default_factory=dict)
    memory: Memory | None = None
    energy: Energy | None = None
    latency: Latency | None = None


def read_complexity(value: Mapping[str, Any], where: str) -> Complexity:
    """Sizes as run.json has them; of older runs, what they have. Raises StoreError, in which `where` is said."""

    def stage(size: Mapping[str, Any]) -> StageSize:
        parts = {str(name): PartSize(**part) for name, part in size.get("parts", {}).items()}
        return StageSize(**{**size, "parts": parts})

    def complexity() -> Complexity:
        stages = {str(name): stage(size) for name, size in value.get("stages", {}).items()}
        held = {str(kind): HeldWeights(**weights) for kind, weights in value.get("held", {}).items()}
        return Complexity(**{**value, "stages": stages, "held": held})

    return _whole(complexity, where)


def read_measured(session: Mapping[str, Any], system: str) -> Measured:
    """One system of a stored session that it did not fail in. Raises StoreError where the file is not as documented."""
    where = f"{session['machine']}/_measures/{session['session']}.json, {system}"
    return _whole(lambda: _measured(session, session["systems"][system]), where)


def _whole(build: Callable[[], _T], where: str) -> _T:
    try:
        return build()
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(
            f"{where}: not what diarbench writes ({problem}); remove it, and run or measure again"
        ) from error


def _measured(session: Mapping[str, Any], found: Mapping[str, Any]) -> Measured:
    noise, audio = session.get("noise") or {}, session.get("audio") or {}
    speed = (found.get("speed") or {}).get(session["device"]) or {}
    seconds = {"imported": "import", "load": "load", "first": "first", "rtf": "rtf"}
    return Measured(
        session=str(session["session"]),
        started=str(session["started"]),
        baseline=str(session["baseline"]),
        rounds=_optional(session.get("rounds"), int),
        weights=bool(session.get("weights", True)),
        audio=str(audio.get("dataset", "")),
        audio_seconds=_number(audio.get("seconds")),
        noise=dict(noise),
        floor=_number(noise.get("floor")),
        busy=bool(noise.get("busy", False)),
        reasons=tuple(map(str, noise.get("reasons") or ())),
        **{name: _number(speed.get(key)) for name, key in seconds.items()},
        warm=tuple(map(_known, speed.get("warm") or ())),
        speedup=_optional(speed.get("speedup"), _speedup),
        encoder=tuple(map(_encoder, speed.get("encoder") or ())),
        stages={
            str(name): _stage(stage)
            for name, stage in (found.get("stages") or {}).items()
            if stage["seconds"] is not None  # a network that no mark holds
        },
        memory=_optional(found.get("memory"), _memory),
        energy=_optional(found.get("energy"), lambda at: Energy(_known(at["joules_per_hour"]), str(at["source"]))),
        latency=_optional(found.get("latency"), _latency),
    )


def _speedup(value: Mapping[str, Any]) -> SpeedUp:
    if value["verdict"] is not None and value["verdict"] not in get_args(Verdict):
        raise ValueError(f"the verdict is {value['verdict']!r}")
    ratios = {key: _known(value[key]) for key in ("median", "low", "high")}
    if min(ratios.values()) <= 0:
        raise ValueError(f"a ratio of times is {min(ratios.values())}")
    return SpeedUp(**ratios, verdict=cast("Verdict | None", value["verdict"]))


def _encoder(value: Mapping[str, Any]) -> EncoderSpeed:
    return EncoderSpeed(
        batch=int(value["batch"]),
        window=_known(value["window"]),
        wall=_number(value.get("wall")),
        rtf=_number(value.get("rtf")),
        speedup=_optional(value.get("speedup"), _speedup),
        error=_optional(value.get("error"), str),
    )


def _stage(value: Mapping[str, Any]) -> StageCost:
    return StageCost(_known(value["seconds"]), _known(value["share"]), _number(value.get("bound")))


def _memory(value: Mapping[str, Any]) -> Memory:
    growth = value.get("growth_per_hour") or {}
    lengths = [
        MemoryAt(
            _known(at["minutes"]),
            _optional(at.get("resident"), int),
            _optional(at.get("cuda"), int),
            _optional(at.get("error"), str),
        )
        for at in value.get("lengths") or ()
    ]
    return Memory(
        loaded=_optional(value.get("loaded"), int),
        lengths=tuple(sorted(lengths, key=lambda at: at.minutes)),
        growth_per_hour={kind: _number(growth.get(kind)) for kind in ("resident", "cuda")},
    )


def _latency(value: Mapping[str, Any]) -> Latency:
    return Latency(*(_number(value.get(key)) for key in ("algorithmic", "p50", "p90", "p99")))


def _optional(value: Any, read: Callable[[Any], _T]) -> _T | None:
    return None if value is None else read(value)


def _number(value: Any) -> float | None:
    return _optional(value, _known)


def _known(value: Any) -> float:
    """A finite number. JSON that Python wrote may hold others, and text is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
