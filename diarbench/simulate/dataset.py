"""A folder of simulated conversations: audio, references, scoring regions, and how they were made."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarbench import __version__
from diarbench.errors import InputError, StoreError
from diarbench.files import sha256_of, write_json, write_whole
from diarbench.rttm import check_id, format_rttm, format_uem
from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.conversation import MIN_PAUSE, simulate_conversation
from diarbench.simulate.encode import AudioFormat, write_audio
from diarbench.simulate.scenes import Heard, Mixture, Range, Scene, Voices
from diarbench.simulate.speech import SAMPLE_RATE, Utterance, find_speech, read_utterance
from diarbench.simulate.statistics import TurnStatistics
from diarbench.simulate.variety import VariedTurns
from diarbench.types import Seconds, Turns

FORMAT = 1  # of simulation.json
REVISION = 1  # of the simulator: rises when the same arguments and files give other conversations


@dataclass(frozen=True, slots=True)
class SimulatedDataset:
    """What `simulate_dataset` wrote."""

    folder: Path
    references: Mapping[str, Turns]  # by recording id
    duration: Seconds  # of each conversation

    @property
    def speech(self) -> Seconds:
        """Time in which anybody speaks, in all conversations."""
        return sum(_time_with(turns, 1) for turns in self.references.values())

    @property
    def overlap(self) -> Seconds:
        """Time in which two or more speak, in all conversations."""
        return sum(_time_with(turns, 2) for turns in self.references.values())


def simulate_dataset(
    speech: Path,
    out: Path,
    *,
    conversations: int,
    duration: Seconds,
    speakers: tuple[int, int],
    seed: int,
    statistics: TurnStatistics | VariedTurns,
    audio_format: AudioFormat = "flac",
    prefix: str = "conversation",
    origin: str = "",
    acoustics: Acoustics | Scene | Mixture | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    speed: Range | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SimulatedDataset:
    """Simulate `conversations` of `duration` seconds from the single-speaker files under `speech`.

    `out` receives `audio/<id>.flac` (or .opus), `reference.rttm`, `evaluation.uem` and `simulation.json`, and
    appears only when all is written. Ids are `prefix` and a number from 01. The number of speakers goes round from
    the least to the most of `speakers`; speakers are dealt from a shuffled deck, so that all are used about equally
    often (`find_speech` says whose file is whose). No speech is used twice in a conversation, unless its speaker
    runs out; then all of his begins anew in another order, which simulation.json counts as `repeats`. Conversation n
    is the same however many are made. `only` names the speakers that may take part, `without` those that may not, in
    conversations and in the background; `speed` is a range of factors, of which each speaker draws one per
    conversation. `on_progress` is called with (conversations done, conversations in all).

    simulation.json holds `format`; the arguments, under their names; `revision` of the simulator and version of
    `diarbench`; `min_pause` (s) below which a speaker's silences are bridged; `statistics`, the SHA-256 and source
    of the turn statistics; `recordings`, by id and speaker the files heard and `repeats`; and `sources`, the SHA-256
    of each of these files. `only`, `without` and `speed` are there where they were given, then `recordings` have each
    speaker's `speed`; and `heard`, by id, where a scene drew something (`diarbench.simulate.Heard`).

    Raises InputError where `out` exists, speech is missing, speakers are too few or an argument can't be; AudioError
    for a file that can't be decoded; StoreError where the disk is full. Nothing is left behind then.
    """
    acoustics = acoustics or Acoustics()
    least, most = speakers
    _check(conversations, duration, speakers, seed, speed)
    files = choose_speakers(find_speech(speech), speech, only, without)
    if len(files) < most:
        shown = ", ".join(list(files)[:5]) + (", ..." if len(files) > 5 else "")
        raise InputError(f"{speech}: holds {len(files)} speakers ({shown}); {most} were asked for")
    deck = _Deck(list(files), np.random.default_rng([seed, 2**32 - 1]))
    references: dict[str, Turns] = {}
    recordings: dict[str, Any] = {}
    sources: dict[str, str] = {}
    heard: dict[str, Heard] = {}
    with whole_or_absent(out) as folder:
        (folder / "audio").mkdir()
        for number in range(conversations):
            recording_id = check_id(f"{prefix}{number + 1:02d}", out)
            names = deck.draw(least + number % (most - least + 1))
            rng = np.random.default_rng([seed, number])
            speeds = {name: 1.0 if speed is None else float(rng.uniform(*speed)) for name in names}
            voices = {name: _read_enough(files[name], speech, duration, rng, speeds[name]) for name in names}
            others = _others({name: paths for name, paths in files.items() if name not in names}, speech)
            made = simulate_conversation(voices, duration, statistics, rng, acoustics=acoustics, voices=others)
            write_audio(folder / "audio" / f"{recording_id}.{audio_format}", made.samples, serial=number)
            references[recording_id] = made.reference
            recordings[recording_id] = {
                name: {
                    "repeats": made.repeats[name],
                    "sources": list(made.sources[name]),
                    **({} if speed is None else {"speed": round(speeds[name], 6)}),
                }
                for name in names
            }
            if made.heard is not None:
                heard[recording_id] = made.heard
            for path in {path for paths in made.sources.values() for path in paths} - sources.keys():
                sources[path] = sha256_of(speech / path)
            if on_progress is not None:
                on_progress(number + 1, conversations)
        _write_texts(folder, references, duration)
        description = {
            "format": FORMAT,
            "diarbench": __version__,
            "revision": REVISION,
            "origin": origin,
            "conversations": conversations,
            "duration": duration,
            "speakers": [least, most],
            "seed": seed,
            "audio_format": audio_format,
            "prefix": prefix,
            "acoustics": asdict(acoustics),
            "min_pause": MIN_PAUSE,
            "statistics": {"sha256": statistics.digest, "source": statistics.source},
            "recordings": recordings,
            "sources": dict(sorted(sources.items())),
        }
        given = {"only": list(only), "without": list(without), "speed": None if speed is None else list(speed)}
        description |= {name: value for name, value in given.items() if value}
        if heard:
            description["heard"] = {recording_id: asdict(one) for recording_id, one in heard.items()}
        write_json(folder / "simulation.json", description)
    return SimulatedDataset(out, references, duration)


def choose_speakers(
    files: Mapping[str, list[Path]], speech: Path, only: Sequence[str] = (), without: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """The speakers that `only` names (none: all), less those that `without` names.

    Raises InputError for a name that `files` lacks, or that is in both.
    """
    for name in (*only, *without):
        if name not in files:
            raise InputError(f"{speech}: there is no speaker {name!r}, who is named to take part or to be left out")
    if both := sorted(set(only) & set(without)):
        raise InputError(f"the speaker {both[0]!r} is named both to take part and to be left out")
    return {
        name: paths for name, paths in files.items() if (not only or name in set(only)) and name not in set(without)
    }


def _check(
    conversations: int, duration: Seconds, speakers: tuple[int, int], seed: int, speed: Range | None = None
) -> None:
    least, most = speakers
    if conversations < 1:
        raise InputError(f"{conversations} conversations can't be made; ask for at least one")
    if not 0 < duration < math.inf:
        raise InputError(f"a conversation can't last {duration:g} s; give a number of seconds above 0")
    if not 1 <= least <= most:
        raise InputError(f"no conversation has from {least} to {most} speakers; give for example 2 to 4")
    if seed < 0:
        raise InputError(f"the seed {seed} is negative; give 0 or more")
    if speed is not None and not 0.5 <= speed[0] <= speed[1] <= 2.0:
        raise InputError(
            f"speech can't be from {speed[0]:g} to {speed[1]:g} times as fast; give for example 0.9 to 1.1"
        )


def _write_texts(folder: Path, references: Mapping[str, Turns], duration: Seconds) -> None:
    rttm = "".join(format_rttm(recording_id, turns) for recording_id, turns in references.items())
    write_whole(folder / "reference.rttm", rttm)
    write_whole(folder / "evaluation.uem", format_uem(dict.fromkeys(references, ((0.0, duration),)), digits=3))


def _time_with(turns: Turns, speakers: int) -> Seconds:
    """Time in which at least so many speak."""
    times = np.concatenate([turns.starts, turns.ends])
    steps = np.concatenate([np.ones(len(turns)), -np.ones(len(turns))])
    order = np.argsort(times, kind="stable")
    speaking = np.cumsum(steps[order])[:-1]
    return float(np.sum(np.diff(times[order])[speaking >= speakers]))


class _Deck:
    """Speakers in a shuffled order, shuffled anew when all have been dealt."""

    def __init__(self, names: Sequence[str], rng: np.random.Generator) -> None:
        self._names, self._rng = list(names), rng
        self._left: list[str] = []

    def draw(self, count: int) -> list[str]:
        """`count` different speakers, sorted."""
        drawn: list[str] = []
        while len(drawn) < count:
            if not self._left:
                self._left = [self._names[i] for i in self._rng.permutation(len(self._names))]
            # After a shuffle, those of this conversation may come up again: they go under the deck.
            name = self._left.pop()
            if name in drawn:
                self._left.insert(0, name)
            else:
                drawn.append(name)
        return sorted(drawn)


def _others(files: Mapping[str, list[Path]], folder: Path) -> Voices | None:
    """Voices for the background: one file each of speakers who don't take part; None where there are none."""
    if not files:
        return None

    def read(count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        names = sorted(files)
        drawn = [names[i] for i in rng.permutation(len(names))[:count].tolist()]
        return [read_utterance(files[n][int(rng.integers(len(files[n])))], folder).samples for n in drawn]

    return read


def _read_enough(
    paths: list[Path], folder: Path, duration: Seconds, rng: np.random.Generator, speed: float = 1.0
) -> list[Utterance]:
    """A speaker's files in random order, until they hold as much speech as the conversation is long."""
    utterances: list[Utterance] = []
    speech = 0
    for index in rng.permutation(len(paths)).tolist():
        if speech >= duration * SAMPLE_RATE:
            break
        utterance = read_utterance(paths[index], folder, speed)
        if utterance.phrases:
            utterances.append(utterance)
            speech += utterance.speech
    return utterances


@contextmanager
def whole_or_absent(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well and disappears when it doesn't.

    Raises InputError where `out` exists already or can't be made, StoreError where the disk is full.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; name a new folder, or remove this one first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: can't be made: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)
        os.rename(folder, out)
    except OSError as error:
        raise StoreError(f"{out}: can't be written: {error.strerror or error}; nothing was kept") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
