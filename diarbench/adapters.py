"""Two general adapters that need no code: any program that turns a WAV into an RTTM, and a folder of stored RTTM."""

from __future__ import annotations

import contextlib
import difflib
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from diarbench.errors import AdapterError, InputError, MissingRequirementError
from diarbench.rttm import check_id, read_rttm
from diarbench.types import Audio, Turns

_SHOWN = 3  # ids in an error


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
        if taken := sorted({"audio", "output", "id", "device"} & set(files)):
            raise ValueError(f"[files] can't have the name {taken[0]!r}: {{{taken[0]}}} stands for something else")
        self._command, self._time_limit, self._device, self._files = list(command), time_limit, device, files

    def diarize(self, audio: Audio) -> Turns:
        """Turns that the program wrote. Raises AdapterError where it fails, takes too long, or writes no RTTM."""
        import soundfile

        recording_id = audio.recording.id
        # A process that the program leaves behind may still write while the folder goes.
        with tempfile.TemporaryDirectory(prefix="diarbench-", ignore_cleanup_errors=True) as folder:
            wav, output = Path(folder, f"{recording_id}.wav"), Path(folder, f"{recording_id}.rttm")
            soundfile.write(str(wav), audio.samples.T, audio.sample_rate, subtype="PCM_16")
            values = {"audio": wav, "output": output, "id": recording_id, "device": self._device, **self._files}
            prints_turns = not any("{output}" in part for part in self._command)
            printed = output if prints_turns else Path(folder, "printed")
            self._run([_fill(part, values) for part in self._command], printed, Path(folder, "complaints"))
            if not output.is_file():
                raise AdapterError(f"{self._command[0]} ended well, but wrote no RTTM to {{output}}")
            turns = read_rttm(output)
        if set(turns) - {recording_id}:
            raise AdapterError(f"{self._command[0]} wrote turns of {sorted(turns)[0]!r}, not of {recording_id!r}")
        return turns.get(recording_id, Turns.of([]))

    def _run(self, command: list[str], printed: Path, complaints: Path) -> None:
        # Into files, not pipes: reading a pipe to its end would wait for whatever the program started and left.
        with printed.open("wb") as output, complaints.open("wb") as errors:
            try:
                process = subprocess.Popen(  # noqa: S603  an argument list from the user's own card
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
                )
            except FileNotFoundError as error:
                raise MissingRequirementError(
                    f"the program {command[0]!r} is not there; install it, or mend the card"
                ) from error
            except OSError as error:
                raise MissingRequirementError(
                    f"the program {command[0]!r} can't be started ({error.strerror}); is it executable?"
                ) from error
            try:
                code = process.wait(timeout=self._time_limit)
            except subprocess.TimeoutExpired as error:
                raise AdapterError(
                    f"{command[0]} took over {self._time_limit:g} s (time_limit) and was ended"
                ) from error
            finally:
                _end(process)
        if code != 0:
            said = complaints.read_bytes()[-10_000:].decode(errors="replace").strip().splitlines()
            raise AdapterError(f"{command[0]} failed with exit code {code}: {said[-1] if said else 'no message'}")


class Replay:
    """Turns read from stored RTTM: outputs that somebody published, or that another machine made.

    `files["hypotheses"]` is an RTTM file, or a folder of them. The `[files]` of a card may name one for each dataset
    instead, by the dataset's name. Nothing is timed, and no audio is needed.
    """

    timed = False
    needs_audio = False

    def __init__(self, *, files: Mapping[str, Path]) -> None:
        if "hypotheses" not in files:
            raise ValueError('Replay needs [files] DATASET = "a folder of RTTM, or one RTTM file"')
        place = files["hypotheses"]
        self._turns: dict[str, Turns] = {}
        paths = sorted(place.rglob("*.rttm")) if place.is_dir() else [place]
        if not paths:
            raise InputError(f"{place}: no .rttm file in this folder")
        for path in paths:
            # An empty RTTM says that nobody speaks; a missing one says nothing.
            turns = read_rttm(path) or {check_id(path.stem, path): Turns.of([])}
            if again := sorted(self._turns.keys() & turns):
                raise InputError(f"{path}: the recording id {again[0]!r} is in another RTTM file too")
            self._turns.update(turns)
        self._place = place.name

    @property
    def recordings(self) -> tuple[str, ...]:
        """The ids that it has turns of."""
        return tuple(sorted(self._turns))

    def diarize(self, audio: Audio) -> Turns:
        """The stored turns. Raises AdapterError for a recording that has none: a gap is no empty hypothesis."""
        wanted = audio.recording.id
        if wanted not in self._turns:
            known = ", ".join(self._nearest(wanted))
            more = f" and {len(self._turns) - _SHOWN} more" if len(self._turns) > _SHOWN else ""
            raise AdapterError(f"{self._place} holds no RTTM for the recording {wanted!r}, but for {known}{more}")
        return self._turns[wanted]

    def _nearest(self, wanted: str) -> list[str]:
        """A few ids that it has turns of, those that look most like the wanted one first."""
        near = difflib.get_close_matches(wanted, self._turns, n=_SHOWN)
        return [*near, *(name for name in self.recordings if name not in near)][:_SHOWN]


def _fill(word: str, values: Mapping[str, object]) -> str:
    """The word with {name} filled in, in one pass: what is filled in is not looked at again."""
    return re.sub("|".join(re.escape(f"{{{name}}}") for name in values), lambda m: str(values[m[0][1:-1]]), word)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, and what it started: a script's children would go on and disturb timings."""
    if process.poll() is not None:
        return
    import psutil

    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
