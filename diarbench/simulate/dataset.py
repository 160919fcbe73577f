"""A folder of simulated conversations: audio, references, scoring regions, and how they were made."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diarbench import __version__
from diarbench.errors import InputError, StoreError
from diarbench.files import sha256_of
from diarbench.rttm import check_id, format_rttm, format_uem
from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.conversation import MIN_PAUSE, Conversation, simulate_conversation
from diarbench.simulate.encode import AudioFormat, write_audio
from diarbench.simulate.speech import SAMPLE_RATE, Utterance, find_speech, read_utterance
from diarbench.simulate.statistics import TurnStatistics
from diarbench.types import Seconds, Turns

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SimulatedDataset:
    """What `simulate_dataset` wrote."""

    folder: Path
    references: dict[str, Turns]  # by recording id
    duration: Seconds  # of each conversation


def simulate_dataset(
    speech: Path,
    out: Path,
    *,
    conversations: int,
    duration: Seconds,
    speakers: tuple[int, int],
    seed: int,
    statistics: TurnStatistics,
    audio_format: AudioFormat = "flac",
    prefix: str | None = None,
    acoustics: Acoustics | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SimulatedDataset:
    """Simulate `conversations` of `duration` seconds from the single-speaker files under `speech`.

    `out` receives `audio/<id>.flac` (or .opus), `reference.rttm`, `evaluation.uem` and `simulation.json`, and
    appears only when all is written. Ids are `prefix` (default: the name of `out`) and a number from 01. The
    number of speakers goes round from the least to the most of `speakers`; speakers are dealt from a shuffled
    deck, so that all are used about equally often. Conversation n is the same whatever `conversations` is.
    `on_progress` is called with (conversations done, conversations in all).

    Raises InputError where `out` exists, speech is missing, or speakers are too few.
    """
    acoustics = acoustics or Acoustics()
    least, most = speakers
    if conversations < 1 or not duration > 0:
        raise InputError(f"{conversations} conversations of {duration:g} s can't be made; both must be more than 0")
    if not 1 <= least <= most:
        raise InputError(f"from {least} to {most} speakers can't be; write for example 2-4")
    files = find_speech(speech)
    if len(files) < most:
        raise InputError(f"{speech}: holds {len(files)} speakers ({', '.join(files)}); {most} were asked for")
    prefix = out.resolve().name if prefix is None else prefix
    check_id(prefix, "--prefix" if not out.name else out)
    references: dict[str, Turns] = {}
    records: dict[str, Any] = {}
    sources: dict[str, str] = {}
    deck = _Deck(list(files), np.random.default_rng([seed, 2**32 - 1]))
    with whole_or_absent(out) as folder:
        (folder / "audio").mkdir()
        for number in range(conversations):
            recording_id = f"{prefix}{number + 1:0{max(2, len(str(conversations)))}d}"
            names = deck.draw(least + number % (most - least + 1))
            rng = np.random.default_rng([seed, number])
            voices = {name: _read_enough(files[name], speech, duration, rng) for name in names}
            conversation = simulate_conversation(voices, duration, statistics, rng, acoustics=acoustics)
            write_audio(folder / "audio" / f"{recording_id}.{audio_format}", conversation.samples, seed * 1000 + number)
            references[recording_id] = conversation.reference
            records[recording_id] = _record(conversation)
            for path in {path for heard in conversation.sources.values() for path in heard} - sources.keys():
                sources[path] = sha256_of(speech / path)
            if on_progress is not None:
                on_progress(number + 1, conversations)
        rttm = "".join(format_rttm(recording_id, turns) for recording_id, turns in references.items())
        (folder / "reference.rttm").write_text(rttm, encoding="utf-8")
        uem = format_uem(dict.fromkeys(references, ((0.0, duration),)), digits=3)
        (folder / "evaluation.uem").write_text(uem, encoding="utf-8")
        content = {
            "format": FORMAT,
            "about": "Simulated conversations; the keys are explained at diarbench.simulate.dataset.describe",
            "diarbench": __version__,
            "seed": seed,
            "duration": duration,
            "speakers": [least, most],
            "audio_format": audio_format,
            "min_pause": MIN_PAUSE,
            "acoustics": asdict(acoustics),
            "statistics": {"sha256": statistics.digest, "source": statistics.source},
            "recordings": records,
            "sources": dict(sorted(sources.items())),
        }
        (folder / "simulation.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return SimulatedDataset(out, references, duration)


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


def _read_enough(paths: list[Path], folder: Path, duration: Seconds, rng: np.random.Generator) -> list[Utterance]:
    """A speaker's files in random order, until they hold as much speech as the conversation is long."""
    utterances: list[Utterance] = []
    speech = 0
    for index in rng.permutation(len(paths)).tolist():
        if speech >= duration * SAMPLE_RATE:
            break
        utterance = read_utterance(paths[index], folder)
        if utterance.phrases:
            utterances.append(utterance)
            speech += utterance.speech
    return utterances


def _record(conversation: Conversation) -> dict[str, Any]:
    return {
        speaker: {"repeats": conversation.repeats[speaker], "sources": list(conversation.sources[speaker])}
        for speaker in conversation.stems
    }


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
