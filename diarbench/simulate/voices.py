"""Single-speaker speech from espeak-ng: what to simulate conversations from where there is nothing else."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarbench.audio import resample
from diarbench.errors import InputError, MissingRequirementError
from diarbench.simulate.dataset import whole_or_absent
from diarbench.simulate.encode import write_audio
from diarbench.simulate.speech import SAMPLE_RATE
from diarbench.types import Seconds

_TIME_LIMIT: Seconds = 60.0  # for one sentence; it takes hundredths of a second


@dataclass(frozen=True, slots=True)
class Voice:
    """One espeak-ng voice."""

    variant: str  # as `espeak-ng --voices=variant` lists it, after "!v/"
    accent: str  # as `espeak-ng --voices=en` lists it
    pitch: int  # 0 to 99
    speed: int  # words per minute

    @property
    def name(self) -> str:
        """The speaker's name in folders and references."""
        return self.variant.lower()


# Chosen among 216 combinations of 72 variants, eight accents of English and three pitches, so that speaker
# embeddings (GE2E, as Resemblyzer trained it) tell all of them apart. Over ten sentences, the cosine between the mean
# embeddings of two voices is 0.58 in the median and at most 0.70; between a sentence and its own voice's mean it is at
# least 0.88.
VOICES: tuple[Voice, ...] = (
    Voice("f1", "en-us", 80, 165),
    Voice("quincy", "en-029", 25, 155),
    Voice("anika", "en-gb-x-rp", 80, 170),
    Voice("Gene", "en-gb-x-gbcwmd", 25, 160),
    Voice("Marco", "en-gb-scotland", 25, 175),
    Voice("steph", "en-us", 25, 160),
    Voice("zac", "en-029", 80, 170),
    Voice("boris", "en-us", 50, 150),
    Voice("iven2", "en-gb-x-gbcwmd", 50, 165),
    Voice("norbert", "en-gb-x-gbcwmd", 80, 175),
    Voice("benjamin", "en-us-nyc", 50, 170),
    Voice("grandma", "en-us", 50, 150),
    Voice("travis", "en-gb-scotland", 25, 165),
    Voice("Jacky", "en-us-nyc", 50, 180),
    Voice("victor", "en-gb-scotland", 80, 160),
    Voice("belinda", "en-gb-x-gbclan", 25, 170),
)


def synthesise_voices(
    out: Path,
    *,
    sentences: Sequence[str],
    seed: int,
    per_voice: int = 60,
    voices: Sequence[Voice] = VOICES,
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Let each voice say `per_voice` of the sentences, into `out/<voice>/<number>.flac`, and say how it was done.

    Each voice draws its own sentences, and its pitch wanders a little from one to the next. Returns a line on the
    origin of the speech (program and version, voices, sentences with their digest). The same seed and version of
    espeak-ng give the same samples. `on_progress` is called with (voices done, voices in all).

    Raises MissingRequirementError without espeak-ng or where its version lacks a voice, InputError where `out`
    exists or sentences are too few.
    """
    if len(sentences) < per_voice:
        raise InputError(f"{len(sentences)} sentences are too few: each voice says {per_voice}")
    program = _find_espeak()
    version = _run([program, "--version"], "").decode(errors="replace").split("Data at")[0].strip()
    _check_variants(program, version, voices)
    with whole_or_absent(out) as folder:
        for number, voice in enumerate(voices):
            rng = np.random.default_rng([seed, number])
            (folder / voice.name).mkdir()
            for index in sorted(rng.permutation(len(sentences))[:per_voice].tolist()):
                pitch = int(np.clip(voice.pitch + rng.integers(-5, 6), 0, 99))
                samples = _say(program, voice, pitch, sentences[index])
                write_audio(folder / voice.name / f"{index:03d}.flac", samples, 0)
            if on_progress is not None:
                on_progress(number + 1, len(voices))
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
    return (
        f"synthetic: {version}, {len(voices)} voices, {per_voice} utterances each out of {len(sentences)} sentences "
        f"(SHA-256 of the lines {digest}), seed {seed}"
    )


def read_sentences(path: Path) -> list[str]:
    """The lines of a text file; empty ones and those that begin with # are passed over. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as text ({error})") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _find_espeak() -> str:
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingRequirementError(
            "espeak-ng is not there; install it (Debian and Ubuntu: apt install espeak-ng; macOS: brew install "
            "espeak-ng), or simulate from recorded speech with --speech DIR"
        )
    return program


def _check_variants(program: str, version: str, voices: Sequence[Voice]) -> None:
    # espeak-ng says nothing about a variant that it doesn't know, and speaks without it.
    listed = _run([program, "--voices=variant"], "").decode(errors="replace")
    known = {line.split("!v/", 1)[1].strip().split("  ")[0] for line in listed.splitlines() if "!v/" in line}
    missing = [voice.variant for voice in voices if voice.variant not in known]
    if missing:
        raise MissingRequirementError(
            f"this espeak-ng ({version}) has no voice variant {', '.join(missing)}; version 1.51 has all that are used"
        )


def _say(program: str, voice: Voice, pitch: int, sentence: str) -> NDArray[np.float32]:
    import soundfile

    name = f"{voice.accent}+{voice.variant}"
    command = [program, "-v", name, "-p", str(pitch), "-s", str(voice.speed), "--stdout", "--", sentence]
    samples, rate = soundfile.read(io.BytesIO(_run(command, f" for voice {name}")), dtype="float32", always_2d=True)
    # Some variants come close to full scale, and resampling may overshoot: 6 dB of room.
    return np.asarray(resample(samples.T, rate, SAMPLE_RATE)[0] * np.float32(0.5))


def _run(command: list[str], purpose: str) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIME_LIMIT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingRequirementError(f"espeak-ng could not be run{purpose}: {error}") from error
    if done.returncode != 0 or not done.stdout:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise MissingRequirementError(f"espeak-ng failed{purpose}: {reason[-1] if reason else 'no output'}")
    return done.stdout
