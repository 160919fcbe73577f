"""A measuring session as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diarbench.report import text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_session(session: Mapping[str, Any], console: Console) -> None:
    """What was found, and how far it may be trusted."""
    device = session["device"]
    place = "GPU" if device == "cuda" else f"CPU, {text.many(session['threads'], 'thread')}"
    systems: Mapping[str, Any] = session["systems"]
    audio = session["audio"]
    if audio is not None and any(one["speed"][device]["rtf"] is not None for one in systems.values()):
        heard = f"{text.many(len(audio['recordings']), 'recording')} of {audio['dataset']}, {audio['seconds']:.0f} s"
        console.print(f"Whole systems on {text.plain(session['machine'])}, {place}; {heard}", markup=False)
        console.print(_pipelines(session))
    if any(one["speed"][device]["encoder"] for one in systems.values()):
        console.print(f"\nEncoders alone, {place}, windows of noise", markup=False)
        console.print(_encoders(session))
    if any(_timed_stages(one) for one in systems.values()):
        console.print("\nWhere the time goes, and how much faster the whole would be if a stage cost nothing")
        console.print(_stages(session))
    if any(one["memory"] for one in systems.values()):
        console.print("\nPeak memory by length of the recording")
        console.print(_memory(session))
    latencies = {name: one["latency"] for name, one in systems.items() if one["latency"]}
    if latencies:
        console.print("\nLatency of streaming")
        console.print(_latency(latencies))
    for line in trust(session):
        console.print(line, markup=False)


def trust(session: Mapping[str, Any]) -> list[str]:
    """The noise floor, and what else the machine did, in sentences."""
    noise = session["noise"]
    lines = []
    floors = [("whole systems", noise["ratio"], noise["floor"])] + [
        (f"encoders, batch {row['batch']}", row["ratio"], row["floor"]) for row in noise["encoder"]
    ]
    for what, ratio, floor in floors:
        if ratio is not None:
            lines.append(
                f"Noise, {what}: a second copy of {text.plain(noise['control'])} came out at {_ratio(ratio)}; "
                f"nothing within ±{100 * floor:.1f} % of 1 is called a speed-up."
            )
    if noise["busy"]:
        reasons = "; ".join(text.plain(reason) for reason in noise["reasons"])
        lines.append(f"BUSY MACHINE: {reasons}. Ratios may still hold; absolute times don't.")
    if session["order"] == "block":
        lines.append("All turns of a system were taken in a row: drift of the machine is in these ratios.")
    return lines


def print_scaling(scaling: Mapping[str, Mapping[str, float | None]], console: Console) -> None:
    """RTF by number of threads, and what more threads gain."""
    counts = list(next(iter(scaling.values())))
    table = _table("system", *(f"RTF, {text.many(int(count), 'thread')}" for count in counts))
    for name, by_count in scaling.items():
        first = by_count[counts[0]]
        cells = []
        for count in counts:
            rtf = by_count[count]
            gain = f" ({text.times(first / rtf)})" if rtf and first and count != counts[0] else ""
            cells.append(f"{text.ratio(rtf)}{gain}" if rtf is not None else text.NOTHING)
        table.add_row(text.plain(name), *cells)
    console.print("\nMore threads")
    console.print(table)


def _pipelines(session: Mapping[str, Any]) -> Table:
    device, systems = session["device"], session["systems"]
    with_energy = any(one["energy"] for one in systems.values())
    energy = ["kJ per h"] if with_energy else []
    table = _table(
        "system", "parameters", "weights held", "G MACs per s", "load s", "first s", "RTF", "× real time",
        "speed-up", "95 %", "", *energy,
    )  # fmt: skip
    for name, one in systems.items():
        speed = one["speed"][device]
        ratio = speed["speedup"]
        cells = [
            _shown(one["parameters"], text.count),
            _shown(one["bytes"]["held"], text.size),
            _giga(one["macs"]["pipeline_per_s"]),
            _shown(speed["load"], text.ratio),
            _shown(speed["first"], text.ratio),
            _shown(speed["rtf"], text.ratio),
            _shown(speed["inverse"], text.ratio),
            *_speedup(ratio, name == session["baseline"]),
        ]
        if with_energy:
            cells.append(_shown(one["energy"] and one["energy"]["joules_per_hour"] / 1000, text.ratio))
        table.add_row(text.plain(name), *cells)
    return table


def _encoders(session: Mapping[str, Any]) -> Table:
    device = session["device"]
    table = _table(
        "system", "parameters", "G MACs, 1 s", "per s of own window", "batch", "window s", "RTF", "speed-up", "95 %", ""
    )
    for name, one in session["systems"].items():
        encoder = one.get("encoder_parameters")
        for row in one["speed"][device]["encoder"]:
            window = one["macs"]["window"]
            own = one["macs"]["window_per_s"]
            table.add_row(
                text.plain(name),
                _shown(encoder, text.count),
                _giga(one["macs"]["encoder_1s"]),
                f"{_giga(own)} ({window:g} s)" if own is not None else text.NOTHING,
                str(row["batch"]),
                f"{row['window']:g}",
                _shown(row["rtf"], text.ratio) if row["error"] is None else "failed",
                *_speedup(row["speedup"], name == session["baseline"]),
            )
    return table


def _stages(session: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(stage for one in session["systems"].values() for stage in _timed_stages(one)))
    table = _table("system", *names, "other")
    for name, one in session["systems"].items():
        shares = {stage: one["stages"][stage]["share"] for stage in _timed_stages(one)}
        cells = []
        for stage in names:
            bound = one["stages"][stage]["bound"] if stage in shares else None
            most = f" (≤ {text.times(bound)})" if bound is not None else ""
            cells.append(f"{100 * shares[stage]:.0f} %{most}" if stage in shares else text.NOTHING)
        rest = f"{100 * max(0.0, 1 - sum(shares.values())):.0f} %" if shares else text.NOTHING
        table.add_row(text.plain(name), *cells, rest)
    return table


def _memory(session: Mapping[str, Any]) -> Table:
    lengths = list(
        dict.fromkeys(
            row["minutes"] for one in session["systems"].values() if one["memory"] for row in one["memory"]["lengths"]
        )
    )
    on_gpu = session["device"] == "cuda"
    heads = [f"{length:g} min" for length in lengths]
    table = _table("system", "loaded", *heads, "growth per h", *([f"GPU, {head}" for head in heads] if on_gpu else []))
    for name, one in session["systems"].items():
        if not one["memory"]:
            continue
        rows = {row["minutes"]: row for row in one["memory"]["lengths"]}
        cells = [
            _shown(one["memory"]["loaded"], text.size),
            *(_shown(rows.get(length, {}).get("resident"), text.size) for length in lengths),
            _shown(one["memory"]["growth_per_hour"]["resident"], text.size),
        ]
        if on_gpu:
            cells += [_shown(rows.get(length, {}).get("cuda"), text.size) for length in lengths]
        table.add_row(text.plain(name), *cells)
    return table


def _latency(latencies: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("system", "chunk + look-ahead, s", "P50, ms", "P90, ms", "P99, ms", "late chunks")
    for name, one in latencies.items():
        table.add_row(
            text.plain(name),
            f"{one['chunk']:g} + {one['look_ahead']:g} = {one['algorithmic']:g}",
            *(f"{1000 * one[key]:.1f}" for key in ("p50", "p90", "p99")),
            f"{one['late']} of {one['chunks']}",
        )
    return table


def _table(first: str, *heads: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _timed_stages(one: Mapping[str, Any]) -> list[str]:
    return [stage for stage, facts in one["stages"].items() if facts["share"] is not None]


def _speedup(ratio: Mapping[str, Any] | None, is_baseline: bool) -> tuple[str, str, str]:
    if ratio is None:
        return ("baseline" if is_baseline else text.NOTHING), "", ""
    return text.times(ratio["median"]), text.interval(ratio["low"], ratio["high"]), ratio["verdict"] or ""


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{text.times(ratio['median'])} {text.interval(ratio['low'], ratio['high'])}"


def _giga(value: float | None) -> str:
    return text.ratio(value / 1e9) if value is not None else text.NOTHING


def _shown(value: Any, show: Any) -> str:
    return str(show(value)) if value is not None else text.NOTHING
