"""Made-up leaderboards: every number in them is invented, and none was measured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diarbench.costs import (
    EncoderSpeed,
    Energy,
    Latency,
    Measured,
    Memory,
    MemoryAt,
    SpeedUp,
    StageCost,
    Verdict,
)
from diarbench.leaderboard import REST, Column, Entry, Leaderboard, Place, Score, Speed, rank
from diarbench.scoring import FAIR, FORGIVING, FULL, ErrorTimes, JaccardErrors
from diarbench.types import Complexity, HeldWeights, PartSize, StageSize

RULES = (FULL, FAIR, FORGIVING)
SCRIPT = "<script>alert(1)</script>"
MINUTE = 60.0

# Of each system: title, compression, DER, thousands of parameters (non-zero ones), bytes per parameter, RTF on a CPU.
FAMILY: dict[str, tuple[str, dict[str, Any], float, int, int, float, float]] = {
    "base": ("VAD, embeddings, AHC; 1.6 s windows", {"method": "none"}, 0.184, 1890, 1890, 4, 0.031),
    "base-w08": ("The same, 0.8 s windows", {"method": "none"}, 0.229, 1890, 1890, 4, 0.034),
    "base-w24": ("The same, 2.4 s windows", {"method": "none"}, 0.191, 1890, 1890, 4, 0.029),
    "base-spectral": ("Spectral clustering", {"method": "none"}, 0.197, 1890, 1890, 4, 0.042),
    "base-bf16": ("bfloat16", {"method": "cast"}, 0.1845, 1890, 1890, 2, 0.052),
    "base-int8": ("INT8 dynamic, all layers", {"method": "quantized", "bits": 8}, 0.553, 1890, 1890, 1.1, 0.019),
    "base-int8-keep0": ("INT8, layer 0 in fp32", {"method": "quantized", "bits": 8}, 0.1862, 1890, 1890, 1.4, 0.021),
    "base-zero50": ("Half of each row zero", {"method": "magnitude", "sparsity": 0.5}, 0.215, 1890, 958, 4, 0.031),
    "base-hidden75": ("Hidden units removed", {"method": "hidden", "sparsity": 0.25}, 0.341, 1180, 1180, 4, 0.022),
}
SHAPES = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (160x128 and 256x1)"


def errors_of(der: float, scored: float, generator: random.Random) -> ErrorTimes:
    """Error times that give about this DER over `scored` seconds."""
    if der >= 1.0:
        return ErrorTimes(scored, scored, 0.0, 0.0)
    der *= generator.uniform(0.7, 1.3)
    missed, false_alarm = generator.uniform(0.15, 0.4), generator.uniform(0.05, 0.2)
    parts = (missed, false_alarm, 1 - missed - false_alarm)
    return ErrorTimes(scored, *(der * scored * part for part in parts))


def make_score(der: float, column: Column, *, seed: object = 0) -> Score:
    """A complete score with about this DER under `full`, and less under the kinder rules."""
    generator = random.Random(f"{seed}/{column.name}")
    recordings = {}
    for name in column.recordings:
        hard = generator.uniform(0.5, 1.6)
        scored = column.audio / len(column.recordings) * 0.9
        recordings[name] = {
            "full": errors_of(min(der * hard, 1.0) if der < 1 else 1.0, scored, generator),
            "fair": errors_of(min(der * hard, 1.0) * 0.72 if der < 1 else 1.0, scored * 0.8, generator),
            "forgiving": errors_of(min(der * hard, 1.0) * 0.6 if der < 1 else 1.0, scored * 0.7, generator),
        }
    # As if each speaker of two had the same part of their time wrong.
    jaccard = {
        name: {rule: JaccardErrors(2 * min(one.errors / one.scored, 1.0), 2) for rule, one in times.items()}
        for name, times in recordings.items()
    }
    return Score(recordings=recordings, failures={}, missing=(), jaccard=jaccard)


def make_column(name: str, *, recordings: int = 12, synthetic: bool = False, total: int | None = None) -> Column:
    """A dataset of recordings of two minutes each."""
    return Column(
        name=name,
        title=f"The dataset {name}",
        digest=f"sha256:{name.encode().hex():0<64}"[:71],
        synthetic=synthetic,
        licence="CC BY 4.0",
        recordings=tuple(f"{name}-{number:03d}" for number in range(recordings)),
        total=recordings if total is None else total,
        audio=recordings * 2 * MINUTE,
    )


def make_provenance(system: str, column: Column, place: Place) -> Mapping[str, Any]:
    """What a stored run says of itself, about as long as a real one."""
    return {
        "key": f"{system}/{column.name}/{place.device}".encode().hex(),
        "system": {"name": system, "card_digest": "sha256:" + "ab12" * 16, "options": {"window": 1.6, "hop": 0.4}},
        "dataset": {"name": column.name, "digest": column.digest, "recordings": len(column.recordings)},
        "machine": place.machine,
        "device": place.device,
        "threads": place.threads,
        "software": {"python": "3.11.7", "diarbench": "0.1.0", "distributions": {"numpy": "2.4.6", "torch": "2.11.0"}},
        "settings": {"environment": {}, "torch": {"threads": 1, "tf32_matmul": False, "cuda": None}},
        "started": "2026-05-04T10:11:12+00:00",
    }


MACHINE = {
    "cpu": "An Invented CPU @ 2.00GHz",
    "cores": 2,
    "logical_cores": 4,
    "memory_bytes": 16 << 30,
    "gpus": [{"name": "Invented GPU 80GB", "memory_bytes": 80 << 30, "driver": "000.00"}],
    "system": "Linux 6.1",
    "architecture": "x86_64",
}
COLUMNS = (make_column("voices", synthetic=True), make_column("ami-excerpts", recordings=8, total=16))
PLACE = Place("invented-4c-16g-eb1f9a", "cpu", 1)


def make_entry(
    system: str,
    der: float,
    *,
    columns: tuple[Column, ...] = COLUMNS,
    rtf: float | None = 0.03,
    places: tuple[Place, ...] = (PLACE,),
    parameters: int | None = 1_000_000,
    **changes: Any,
) -> Entry:
    """An entry with complete scores, and speeds at every place unless `rtf` is None."""
    audio = sum(column.audio for column in columns)
    counted = Complexity(parameters, parameters, {"embedding": parameters}, 4 * parameters) if parameters else None
    entry = Entry(
        system=system,
        title=f"The system {system}",
        baseline=None,
        compression={"method": "none"},
        scores={column.name: make_score(der, column, seed=system) for column in columns},
        speeds={place: Speed(wall=rtf * audio, audio=audio) for place in places} if rtf is not None else {},
        complexity=counted,
        provenance=tuple(make_provenance(system, column, places[0]) for column in columns),
    )
    return replace(entry, **changes)


def make_board(
    *entries: Entry, columns: tuple[Column, ...] = COLUMNS, title: str = "A made-up leaderboard", **changes: Any
) -> Leaderboard:
    """The board of these entries under the three rules, ranked by `full`."""
    machines = {place.machine: MACHINE for entry in entries for place in entry.speeds}
    arguments = {"rules": RULES, "rule": FULL, "machines": machines, "version": "0.1.0"} | changes
    return rank(entries, title=title, columns=columns, **arguments)


def fail(entry: Entry, dataset: str, count: int, error: str) -> Entry:
    """The entry with its first `count` recordings of that dataset failed."""
    score = entry.scores[dataset]
    failed = tuple(score.recordings)[:count]
    kept, jaccard = (
        {name: one for name, one in found.items() if name not in failed} for found in (score.recordings, score.jaccard)
    )
    broken = Score(recordings=kept, failures=dict.fromkeys(failed, error), missing=(), jaccard=jaccard)
    return replace(entry, scores={**entry.scores, dataset: broken})


def realistic() -> Leaderboard:
    """Thirteen systems on two datasets at two places: a family, two floors, one that failed and one not run."""
    cpu, gpu = PLACE, PLACE._replace(device="cuda", threads=2)
    entries = []
    for name, (title, compression, der, parameters, nonzero, width, rtf) in FAMILY.items():
        entry = make_entry(name, der, rtf=rtf, title=title, compression=compression)
        weights = 1000 * parameters
        size = Complexity(weights, 1000 * nonzero, {"embedding": weights}, int(weights * width))
        entry = replace(entry, complexity=size, baseline=None if name == "base" else "base")
        if "int8" not in name:
            speed = entry.speeds[cpu]
            entry = replace(entry, speeds={cpu: speed, gpu: Speed(0.11 * speed.wall, speed.audio)})
        entries.append(entry)
    entries.append(make_entry("one-speaker", 0.472, rtf=4e-6, parameters=None, compression={}))
    entries.append(make_entry("silence", 1.0, rtf=2e-6, parameters=None, compression={}))
    broken = make_entry("base-hidden50", 0.4, rtf=None, baseline="base", compression={"method": "hidden"})
    entries.append(fail(broken, "ami-excerpts", 3, SHAPES))
    outside = make_entry("outside-program", 0.26, parameters=None, compression={}, rtf=0.2)
    problems = ("CPU and GPU outputs differ on 2 of 20 recordings",)
    entries.append(replace(outside, problems=problems, scores={"voices": outside.scores["voices"]}))
    return make_board(*entries, title="Compressed speaker diarization on a desk machine")


def make_ratio(median: float, *, width: float = 0.03, floor: float = 0.02) -> SpeedUp:
    """A speed-up with an interval, and what a session with that noise floor says of it."""
    low, high = median * (1 - width), median * (1 + width)
    verdict: Verdict = "faster" if low > 1 + floor else "slower" if high < 1 / (1 + floor) else "within noise"
    return SpeedUp(median, low, high, verdict)


def make_measured(
    ratio: float | None = None,
    *,
    baseline: str = "base",
    encoder: float | None = None,
    rtf: float = 0.03,
    lengths: tuple[float, ...] = (1.0, 10.0, 60.0),
    cuda: bool = False,
    busy: bool = False,
    **changes: Any,
) -> Measured:
    """A system in a measuring session, with everything in it; `ratio` is None of the baseline itself."""
    stages = {"embedding": 0.7, "clustering": 0.1, "vad": 0.15}
    megabyte = 1_000_000
    resident = {at: int((300 + 4 * at * rtf * 30) * megabyte) for at in lengths}
    measured = Measured(
        session="20260504-101112",
        started="2026-05-04T10:11:12",
        baseline=baseline,
        rounds=15,
        weights=True,
        audio="voices",
        audio_seconds=30.0,
        noise={"control": baseline, "ratio": {"median": 1.0, "low": 0.99, "high": 1.01}, "floor": 0.02, "busy": busy},
        floor=0.02,
        busy=busy,
        reasons=("other processes used 40 % of the CPU",) if busy else (),
        rtf=rtf,
        imported=1.5,
        load=0.25,
        first=40 * rtf,
        warm=(30 * rtf, 31 * rtf),
        speedup=make_ratio(ratio) if ratio is not None else None,
        encoder=tuple(
            EncoderSpeed(batch, 8.0, 8.0 * rtf * batch, rtf, make_ratio(encoder) if encoder else None, None)
            for batch in (1, 8)
        ),
        stages={name: StageCost(share * 30 * rtf, share, 1 / (1 - share)) for name, share in stages.items()},
        memory=Memory(
            250 * megabyte,
            tuple(MemoryAt(at, size, size // 2 if cuda else None, None) for at, size in resident.items()),
            {"resident": 3.0 * megabyte, "cuda": None},
        ),
        energy=Energy(4321.0, "rapl"),
        latency=Latency(0.5, 0.01, 0.02, 0.03),
    )
    return replace(measured, **changes)


def make_sizes(parameters: int, *, width: int = 4) -> Complexity:
    """All that can be counted of a network of that size, with weights of so many bytes."""
    encoder, window = parameters * 9 // 10, 8.0
    parts = {"cnn": PartSize(encoder // 3, 20 * parameters), "transformer": PartSize(encoder // 2, 30 * parameters)}
    kind = {4: "float32", 2: "bfloat16", 1: "int8"}[width]
    return Complexity(
        parameters=parameters,
        nonzero_parameters=parameters,
        parameters_by_stage={"embedding": parameters},
        weight_bytes=parameters * width,
        stages={"embedding": StageSize(parameters, 60 * parameters, window, 500 * parameters, parts)},
        encoder_parameters=encoder,
        encoder_macs_1s=55 * parameters,
        encoder_macs_window=460 * parameters,
        encoder_window=window,
        held={kind: HeldWeights(parameters, parameters * width)},
    )


# Of each system: speed-up of the pipeline and of the encoder on a CPU, on a GPU, and bytes per weight.
MEASURED: dict[str, tuple[float | None, float | None, float | None, int]] = {
    "base": (None, None, None, 4),
    "base-bf16": (0.62, 0.55, 1.31, 2),
    "base-int8": (1.63, 2.4, None, 1),
    "base-int8-keep0": (1.48, 2.1, None, 1),
    "base-zero50": (1.01, 1.0, 0.99, 4),
    "base-hidden75": (1.41, 1.55, 1.12, 4),
}


def measured() -> Leaderboard:
    """The realistic board with all that can be counted and measured of some of its systems; the GPU was busy."""
    gpu = PLACE._replace(device="cuda", threads=2)
    entries = []
    for line in realistic().lines:
        entry = line.entry
        if entry.system in MEASURED:
            pipeline, encoder, graphics, width = MEASURED[entry.system]
            parameters, rtf = 1000 * FAMILY[entry.system][3], FAMILY[entry.system][6]
            found = {PLACE: make_measured(pipeline, encoder=encoder, rtf=rtf)}
            if entry.system == "base" or graphics is not None:
                found[gpu] = make_measured(graphics, encoder=graphics, rtf=0.1 * rtf, cuda=True, busy=True)
            sizes = replace(make_sizes(parameters, width=width), nonzero_parameters=1000 * FAMILY[entry.system][4])
            wall = entry.speeds[PLACE].wall
            stages = {"embedding": 0.68 * wall, "clustering": 0.1 * wall, "vad": 0.15 * wall, REST: 0.07 * wall}
            entry = replace(
                entry, measured=found, complexity=sizes, stages={PLACE: stages}, pipeline_macs=95.0 * parameters
            )
        elif entry.system == "base-w08":
            entry = replace(entry, notes=("what was measured on CPU, 1 thread on box was another version of it",))
        entries.append(entry)
    return make_board(*entries, title="What compression really buys")


def hostile() -> Leaderboard:
    """Names, titles and errors that would do harm where they are not escaped."""
    column = replace(make_column("data"), title=f"{SCRIPT} & co", name="data", licence=SCRIPT)
    entry = make_entry(SCRIPT, 0.2, columns=(column,), places=(Place(SCRIPT, "cpu", 1),))
    entry = replace(entry, title=f'"{SCRIPT}\u2028\u2029', compression={"method": SCRIPT}, problems=(SCRIPT,))
    entry = replace(entry, timings_left_out=(SCRIPT,))
    place = Place(SCRIPT, "cpu", 1)
    against = make_measured(
        1.5, encoder=2.0, baseline=SCRIPT, session=SCRIPT, audio=SCRIPT, busy=True, reasons=(SCRIPT,),
        energy=Energy(1.0, SCRIPT), stages={SCRIPT: StageCost(1.0, 0.5, 2.0)},
    )  # fmt: skip
    stages = {place: {SCRIPT: 1.0, REST: 1.0}}
    entry = replace(entry, measured={place: against}, stages=stages, notes=(SCRIPT,), pipeline_macs=1e9)
    evil = "</script><img src=x onerror=alert(1)>"
    failed = fail(make_entry(evil, 0.3, columns=(column,), baseline=SCRIPT), "data", 2, SCRIPT)
    more = make_entry("\x1b[31mred", 0.4, columns=(column,), provenance=({SCRIPT: {evil: [SCRIPT, evil]}},))
    sheet = make_entry('=HYPERLINK("http://example.invalid")', 0.5, columns=(column,))
    return make_board(entry, failed, more, sheet, columns=(column,), title=SCRIPT)


def many(systems: int = 40, recordings: int = 300) -> Leaderboard:
    """A large board."""
    columns = (
        make_column("first", recordings=recordings - recordings // 3),
        make_column("second", recordings=recordings // 3, synthetic=True),
    )
    entries = [
        make_entry(
            f"system-with-a-long-name-{number:02d}",
            0.1 + 0.01 * number,
            columns=columns,
            rtf=0.01 * (1 + number % 7),
            parameters=1_000_000 * (1 + number % 11),
            places=(PLACE, Place("rack", "cuda", 8)),
            compression={"method": ("none", "params", "macs", "quantized")[number % 4], "sparsity": 0.5},
        )
        for number in range(systems)
    ]
    return make_board(*entries, columns=columns)
