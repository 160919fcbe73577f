"""Two general adapters that need no code: any program that turns a WAV into an RTTM, and a folder of stored RTTM."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from diarbench.errors import AdapterError, MissingRequirementError
from diarbench.rttm import read_rttm
from diarbench.types import Audio, Turns


class Command:
    """Run a program for each recording: it reads a WAV (16 bit, the dataset's rate) and writes an RTTM.

    `command` is an argument list, not a shell line. In it, {audio} stands for the WAV, {output} for the RTTM to
    write, {id} for the recording's id, {device} for "cpu" or "cuda", and {NAME} for each file NAME of the card's
    [files]. Without {output}, the RTTM is read from what the program prints. The program's start and its loading
    of models are inside the clock, since it does them anew for every recording.
    """

    def __init__(
        self, *, command: Sequence[str], time_limit: float = 3600.0, device: str = "cpu", files: Mapping[str, Path]
    ) -> None:
        if not command or not all(isinstance(part, str) for part in command):
            raise ValueError("command must be a list of words, for example ['diarize', '{audio}', '{output}']")
        if not any("{audio}" in part for part in command):
            raise ValueError("command must name the recording: one of its words needs {audio}")
        if time_limit <= 0:
            raise ValueError(f"time_limit must be positive (s), not {time_limit}")
        self._command, self._time_limit, self._device, self._files = list(command), time_limit, device, files

    def diarize(self, audio: Audio) -> Turns:
        """Turns that the program wrote. Raises AdapterError where it fails, takes too long, or writes no RTTM."""
        import soundfile

        recording_id = audio.recording.id
        with tempfile.TemporaryDirectory(prefix="diarbench-") as folder:
            wav, output = Path(folder, f"{recording_id}.wav"), Path(folder, f"{recording_id}.rttm")
            soundfile.write(str(wav), audio.samples.T, audio.sample_rate, subtype="PCM_16")
            values = {"audio": wav, "output": output, "id": recording_id, "device": self._device, **self._files}
            printed = self._run([_fill(part, values) for part in self._command])
            if not any("{output}" in part for part in self._command):
                output.write_text(printed)
            if not output.is_file():
                raise AdapterError(f"{self._command[0]} ended well, but wrote no RTTM to {{output}}")
            turns = read_rttm(output)
        if set(turns) - {recording_id}:
            raise AdapterError(f"{self._command[0]} wrote turns of {sorted(turns)[0]!r}, not of {recording_id!r}")
        return turns.get(recording_id, Turns.of([]))

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603  an argument list from the user's own card
                command, capture_output=True, text=True, errors="replace", timeout=self._time_limit, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise MissingRequirementError(
                f"the program {command[0]!r} is not there; install it, or mend the card"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise AdapterError(f"{command[0]} took over {self._time_limit:g} s (time_limit) and was ended") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise AdapterError(
                f"{command[0]} failed with exit code {done.returncode}: {said[-1] if said else 'no message'}"
            )
        return done.stdout


class Replay:
    """Turns read from stored RTTM: outputs that somebody published, or that another machine made.

    `files["hypotheses"]` is an RTTM file, or a folder of them. Nothing is timed, and no audio is needed.
    """

    timed = False
    needs_audio = False

    def __init__(self, *, files: Mapping[str, Path]) -> None:
        if "hypotheses" not in files:
            raise ValueError('Replay needs [files] hypotheses = "a folder of RTTM, or one RTTM file"')
        place = files["hypotheses"]
        self._turns: dict[str, Turns] = {}
        for path in sorted(place.rglob("*.rttm")) if place.is_dir() else [place]:
            # An empty RTTM says that nobody speaks; a missing one says nothing.
            self._turns.update(read_rttm(path) or {path.stem: Turns.of([])})
        self._place = place.name

    def diarize(self, audio: Audio) -> Turns:
        """The stored turns. Raises AdapterError for a recording that has none: a gap is no empty hypothesis."""
        if audio.recording.id not in self._turns:
            raise AdapterError(f"{self._place} holds no RTTM for the recording {audio.recording.id!r}")
        return self._turns[audio.recording.id]


def _fill(word: str, values: Mapping[str, object]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", str(value))
    return word
