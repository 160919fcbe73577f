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
    rows = [row for one in systems.values() for row in one["speed"][device]["encoder"]]
    if any(row["rtf"] is not None for row in rows):
        console.print(f"\nEncoders alone, {place}, windows of {rows[0]['window']:g} s of noise", markup=False)
        console.print(_encoders(session))
    if any(one["parameters"] is not None for one in systems.values()):
        console.print("\nSizes; the last three are billions of multiply-accumulates (G MACs) per second of audio")
        console.print(_sizes(session))
    if any(_timed_stages(one) for one in systems.values()):
        console.print("\nWhere the time goes, and how much faster the whole would be if a stage cost nothing")
        console.print(_stages(session))
    if any(one["memory"] for one in systems.values()):
        console.print("\nPeak memory by length of the recording")
        console.print(_memory(session))
    energies = {name: one["energy"] for name, one in systems.items() if one["energy"]}
    if energies:
        console.print("\nEnergy of the whole device, by its own counter")
        console.print(_energy(energies))
    latencies = {name: one["latency"] for name, one in systems.items() if one["latency"]}
    if latencies:
        console.print("\nLatency of streaming")
        console.print(_latency(latencies))
    for line in [*problems(session), *trust(session)]:
        console.print(line, markup=False)


def problems(session: Mapping[str, Any]) -> list[str]:
    """Why figures are missing, in sentences: systems with the same reason share one."""
    names_by_reason: dict[str, list[str]] = {}
    for name, one in session["systems"].items():
        rows = [*one["speed"][session["device"]]["encoder"], *(one["memory"]["lengths"] if one["memory"] else ())]
        found = [one["error"], one["count_problem"], *(row["error"] for row in rows)]
        for reason in dict.fromkeys(reason for reason in found if reason is not None):
            names_by_reason.setdefault(reason, []).append(name)
    return [
        f"Not measured, {text.plain(', '.join(names))}: {text.plain(reason)}"
        for reason, names in names_by_reason.items()
    ]


def trust(session: Mapping[str, Any]) -> list[str]:
    """The noise floor, and what else the machine did, in sentences."""
    noise = session["noise"]
    lines = []
    floors = [("whole systems", noise)] + [(f"encoders, batch {row['batch']}", row) for row in noise["encoder"]]
    for what, found in floors:
        ratio, floor, error = found["ratio"], found["floor"], found["error"]
        if ratio is not None:
            lines.append(
                f"Noise, {what}: a second copy of {text.plain(noise['control'])} came out at {_ratio(ratio)}; "
                f"nothing within ±{100 * floor:.1f} % of 1 is called a speed-up."
            )
        elif error is not None:
            lines.append(
                f"Noise, {what}: not known, so nothing is called a speed-up; "
                f"a second copy of {text.plain(noise['control'])} failed: {text.plain(error)}"
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
    table = _table("system", *(f"RTF,\n{text.many(int(count), 'thread')}" for count in counts))
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
    table = _table("system", "load\ns", "first\ns", "RTF", "× real\ntime", "speed-up, 95 %", "")
    for name, one in session["systems"].items():
        speed = one["speed"][session["device"]]
        table.add_row(
            text.plain(name),
            _shown(speed["load"], text.ratio),
            _shown(speed["first"], text.ratio),
            _shown(speed["rtf"], text.ratio) if one["error"] is None else "failed",
            _shown(speed["inverse"], text.ratio),
            *_speedup(speed["speedup"], name == session["baseline"]),
        )
    return table


def _encoders(session: Mapping[str, Any]) -> Table:
    table = _table("system", "batch", "RTF", "speed-up, 95 %", "")
    for name, one in session["systems"].items():
        for row in one["speed"][session["device"]]["encoder"]:
            table.add_row(
                text.plain(name),
                str(row["batch"]),
                _shown(row["rtf"], text.ratio),
                *_speedup(row["speedup"], name == session["baseline"]),
            )
    return table


def _sizes(session: Mapping[str, Any]) -> Table:
    table = _table(
        "system", "parameters", "of the\nencoder", "weights\nheld", "encoder,\n1 s", "encoder,\nown window", "pipeline"
    )
    for name, one in session["systems"].items():
        macs = one["macs"]
        own = macs["window_per_s"]
        table.add_row(
            text.plain(name),
            _shown(one["parameters"], text.count),
            _shown(one["encoder_parameters"], text.count),
            _shown(one["bytes"]["held"], text.size),
            _giga(macs["encoder_1s"]),
            f"{_giga(own)} ({macs['window']:g} s)" if own is not None else text.NOTHING,
            _giga(macs["pipeline_per_s"]),
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
    heads = [f"{length:g}\nmin" for length in lengths]
    table = _table("system", "loaded", *heads, "growth\nper h", *([f"GPU, {head}" for head in heads] if on_gpu else []))
    for name, one in session["systems"].items():
        if not one["memory"]:
            continue
        rows = {row["minutes"]: row for row in one["memory"]["lengths"]}
        cells = [
            _shown(one["memory"]["loaded"], text.size),
            *(_shown(rows.get(length, {}).get("resident"), text.size) for length in lengths),
            _shown(one["memory"]["growth_per_hour"]["resident"], text.size_change),
        ]
        if on_gpu:
            cells += [_shown(rows.get(length, {}).get("cuda"), text.size) for length in lengths]
        table.add_row(text.plain(name), *cells)
    return table


def _energy(energies: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("system", "kJ per hour of audio")
    for name, one in energies.items():
        table.add_row(text.plain(name), text.ratio(one["joules_per_hour"] / 1000))
    return table


def _latency(latencies: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("system", "chunk + look-ahead\ns", "P50\nms", "P90\nms", "P99\nms", "late\nchunks")
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

    # On a narrow terminal, names are folded before any figure is cut.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold", min_width=8)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _timed_stages(one: Mapping[str, Any]) -> list[str]:
    return [stage for stage, facts in one["stages"].items() if facts["share"] is not None]


def _speedup(ratio: Mapping[str, Any] | None, is_baseline: bool) -> tuple[str, str]:
    if ratio is None:
        return ("baseline" if is_baseline else text.NOTHING), ""
    return _ratio(ratio), ratio["verdict"] or ""


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{text.times(ratio['median'])} {text.interval(ratio['low'], ratio['high'])}"


def _giga(value: float | None) -> str:
    return text.ratio(value / 1e9) if value is not None else text.NOTHING


def _shown(value: Any, show: Any) -> str:
    return str(show(value)) if value is not None else text.NOTHING
