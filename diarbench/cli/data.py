"""`diarbench data`: make conversations with exact references, and the turn statistics they are drawn from."""

from __future__ import annotations

import re
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diarbench.cli.common import Format, FormatOption, console, print_json
from diarbench.cli.transfers import counting
from diarbench.errors import InputError

if TYPE_CHECKING:
    from diarbench.simulate import SimulatedDataset, TurnStatistics

data_app = typer.Typer(
    help="Corpora: list, get, verify, count; and simulated conversations.",
    no_args_is_help=True,
)


class AudioFormat(StrEnum):
    """How conversations are stored."""

    flac = "flac"
    opus = "opus"


class Preset(StrEnum):
    """How conversations are recorded: `diarbench.simulate.PRESETS`."""

    dry = "dry"
    headset = "headset"
    near = "near"
    far = "far"
    meeting = "meeting"


@data_app.command("simulate")
def simulate(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make; it must not exist yet.")],
    speech: Annotated[
        Path | None,
        typer.Option(
            "--speech", metavar="DIR", help="Single-speaker speech: a sub-folder per speaker, or SPEAKER-*.flac."
        ),
    ] = None,
    voices: Annotated[bool, typer.Option("--voices", help="Let espeak-ng speak instead of --speech.")] = False,
    conversations: Annotated[int, typer.Option("--conversations", help="How many to make.")] = 12,
    duration: Annotated[float, typer.Option("--duration", metavar="SECONDS", help="Length of each.")] = 120.0,
    speakers: Annotated[str, typer.Option("--speakers", metavar="N[-M]", help="How many take part.")] = "2-4",
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same conversations.")] = 0,
    statistics: Annotated[
        Path | None,
        typer.Option("--statistics", metavar="FILE", help="Turn statistics to draw from [those of AMI's test set]."),
    ] = None,
    varied: Annotated[
        bool, typer.Option("--varied", help="Turn-taking of all sorts instead, and long silences: to train on.")
    ] = False,
    preset: Annotated[
        Preset, typer.Option("--preset", help="How it is recorded; meeting: a quarter near, three quarters far.")
    ] = Preset.dry,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SPEAKER", help="Who may take part (may be repeated) [all].")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="SPEAKER", help="Who may not (may be repeated).")
    ] = None,
    speed: Annotated[
        str | None, typer.Option("--speed", metavar="X-Y", help="Play each speaker so many times as fast: 0.9-1.1.")
    ] = None,
    audio_format: Annotated[
        AudioFormat, typer.Option("--audio-format", help="flac keeps all, opus is a fifth of its size.")
    ] = AudioFormat.flac,
    format: FormatOption = Format.table,
) -> None:
    """Simulate conversations from single-speaker speech. Their references are exact."""
    if voices == (speech is not None):
        raise InputError("say where the speech comes from: either --speech DIR or --voices")
    if varied and statistics is not None:
        raise InputError("--varied draws the turn-taking from wide ranges, --statistics from a file: give one of them")
    least, most = _parse_range(speakers)
    factors = None if speed is None else _parse_factors(speed)
    from diarbench.registry import shipped
    from diarbench.simulate import PRESETS, VariedTurns, read_sentences, simulate_dataset, synthesise_voices

    turns = VariedTurns() if varied else _read_statistics(statistics)
    if out.exists():
        raise InputError(f"{out}: exists already; name a new folder, or remove this one first")
    with tempfile.TemporaryDirectory(prefix="diarbench-") as scratch:
        origin = ""
        if speech is None:
            speech = Path(scratch) / "voices"
            sentences = read_sentences(shipped() / "datasets" / "voices" / "sentences.txt")
            with counting("voices") as on_progress:
                origin = synthesise_voices(speech, sentences=sentences, seed=seed, on_progress=on_progress)
        with counting("conversations") as on_progress:
            made = simulate_dataset(
                speech,
                out,
                conversations=conversations,
                duration=duration,
                speakers=(least, most),
                seed=seed,
                statistics=turns,
                audio_format=audio_format.value,
                prefix="voices" if voices else out.resolve().name,
                origin=origin,
                acoustics=PRESETS[preset],
                only=only or (),
                without=without or (),
                speed=factors,
                on_progress=on_progress,
            )
    _show(made, format)


@data_app.command("statistics")
def fit_statistics(
    references: Annotated[list[Path], typer.Argument(metavar="RTTM...", help="Reference RTTM: files, or folders.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The JSON file to write.")],
    source: Annotated[str, typer.Option("--source", help="Where the references come from, with their licence.")] = "",
) -> None:
    """Fit turn-taking statistics on references. They are for `simulate --statistics`."""
    from diarbench.loaders.folder import read_references
    from diarbench.simulate import fit_turn_statistics, write_turn_statistics

    turns = [turns for place in references for _, turns in sorted(read_references(place).items())]
    fitted = fit_turn_statistics(turns, source=source)
    write_turn_statistics(fitted, out)
    console().print(f"{out}: {fitted.turns} turns of {fitted.recordings} recordings")


def _read_statistics(path: Path | None) -> TurnStatistics:
    """Those of a file, or the ones that come with diarbench."""
    from diarbench.simulate import read_turn_statistics, shipped_statistics

    return shipped_statistics() if path is None else read_turn_statistics(path)


def _parse_factors(text: str) -> tuple[float, float]:
    """The least and the most of "0.9-1.1"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None:
        raise InputError(f"--speed {text!r} is no range such as 0.9-1.1")
    return float(match[1]), float(match[2])


def _parse_range(text: str) -> tuple[int, int]:
    """The least and the most of "2-4" or "3"."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise InputError(f"--speakers {text!r} is no number and no range such as 2-4")
    return int(match[1]), int(match[2] or match[1])


def _show(made: SimulatedDataset, format: Format) -> None:
    counts = [len(turns.labels) for turns in made.references.values()]
    facts: dict[str, float | int | str] = {
        "folder": str(made.folder),
        "conversations": len(made.references),
        "duration": made.duration * len(made.references),
        "speech": round(made.speech, 3),
        "overlap": round(made.overlap, 3),
        "least_speakers": min(counts),
        "most_speakers": max(counts),
        "different_speakers": len({label for turns in made.references.values() for label in turns.labels}),
        "turns": sum(len(turns) for turns in made.references.values()),
    }
    if format is Format.json:
        print_json(facts)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("conversations", f"{len(counts)}, {made.duration * len(counts) / 60:.1f} minutes in all"),
        ("speech", f"{made.speech / 60:.1f} minutes, {100 * made.overlap / made.speech:.1f} % of it overlapped"),
        ("speakers", f"{min(counts)} to {max(counts)} in each, {facts['different_speakers']} different ones"),
        ("turns", str(facts["turns"])),
        ("folder", str(made.folder)),
    ):
        table.add_row(name, value)
    console().print(table)
