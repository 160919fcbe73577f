"""Made-up leaderboards: every number in them is invented, and none was measured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diarbench.leaderboard import Column, Entry, Leaderboard, Place, Score, Speed, rank
from diarbench.scoring import FAIR, FORGIVING, FULL, ErrorTimes
from diarbench.types import Complexity

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
    return Score(recordings=recordings, failures={}, missing=())


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
    kept = {name: times for name, times in score.recordings.items() if name not in failed}
    broken = Score(recordings=kept, failures=dict.fromkeys(failed, error), missing=())
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


def hostile() -> Leaderboard:
    """Names, titles and errors that would do harm where they are not escaped."""
    column = replace(make_column("data"), title=f"{SCRIPT} & co", name="data", licence=SCRIPT)
    entry = make_entry(SCRIPT, 0.2, columns=(column,), places=(Place(SCRIPT, "cpu", 1),))
    entry = replace(entry, title=f'"{SCRIPT}\u2028\u2029', compression={"method": SCRIPT}, problems=(SCRIPT,))
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
