"""Audio that a program writes, for wav.scp and Lhotse's `command` sources: run without a shell, kept in the cache.

A data directory that names programs is a script. So a card has to list them, by name, before any is run:

- words are parted as a POSIX shell parts them; nothing is expanded, and several programs may be chained with `|`;
- a program is one that the card lists, found in $PATH;
- redirections, `;`, `&`, variables, back quotes, and a word that begins with `|` (SoX would run it) are refused.

What a listed program does with its arguments is its own: list only those whose arguments can do no harm there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from diarbench.errors import AudioError, InputError, MissingRequirementError, StoreError
from diarbench.fetch import cache_folder
from diarbench.files import digest_of

_TIME_LIMIT = 3600  # s, for one recording

_SHELL = set(";&<>()`$\n\0")


def audio_of_command(command: str, programs: Sequence[str], folder: Path, where: str) -> Path:
    """The file in the cache with what the command writes, run in `folder` unless it has been before.

    It is run again when the command or a file that it names has changed. Raises InputError for a command that may not
    run, MissingRequirementError for a program that is not installed, AudioError where it fails.
    """
    stages = parse_command(command, programs, where)
    identity = {"stages": stages, "folder": str(folder.resolve()), "files": _files_named(stages, folder)}
    target = cache_folder() / "piped" / f"{digest_of(identity)[:32]}.wav"
    if target.is_file():
        return target
    for stage in stages:
        if shutil.which(stage[0]) is None:
            raise MissingRequirementError(f"{where}: the program {stage[0]!r} is not installed, or not in $PATH")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writing-", dir=target.parent, delete=False) as output:
            written = Path(output.name)
            try:
                _run(stages, folder, output.file, where)
                os.replace(written, target)
            finally:
                written.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{target}: can't be written ({error.strerror})") from error
    return target


def parse_command(command: str, programs: Sequence[str], where: str) -> list[list[str]]:
    """The chained programs of a command, each with its arguments. Raises InputError for one that may not run.

    >>> parse_command("sph2pipe -f wav 'a b.sph' | sox - -r 16000 -t wav -", ["sox", "sph2pipe"], "wav.scp, line 1")
    [['sph2pipe', '-f', 'wav', 'a b.sph'], ['sox', '-', '-r', '16000', '-t', 'wav', '-']]
    """
    if not programs:
        raise InputError(
            f"{where}: the audio is what a program writes ({command.strip()[:60]!r}); to let it run, list the programs "
            'in the card, such as pipes = ["sox"], if you would run them by hand'
        )
    if bad := sorted(_SHELL & set(command)):
        raise InputError(f"{where}: {bad[0]!r} is for a shell, and commands run without one; write a script instead")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"{where}: the command can't be read ({error})") from error
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        elif word.startswith("|"):
            raise InputError(
                f"{where}: {word[:60]!r}: no word may begin with '|'; to chain programs, put spaces around it"
            )
        else:
            stages[-1].append(word)
    for stage in stages:
        if not stage:
            raise InputError(f"{where}: a program is missing before or after '|'")
        if stage[0] not in programs:
            raise InputError(
                f"{where}: the program {stage[0][:60]!r} is none of those that the card lets run (pipes = "
                f"{list(programs)})"
            )
    return stages


def _files_named(stages: Sequence[Sequence[str]], folder: Path) -> list[list[object]]:
    found: list[list[object]] = []
    for word in (word for stage in stages for word in stage[1:]):
        if (path := folder / word).is_file():
            status = path.stat()
            found.append([word, status.st_size, status.st_mtime_ns])
    return found


def _run(stages: Sequence[Sequence[str]], folder: Path, output: IO[bytes], where: str) -> None:
    """Run chained programs, the last one's output going to a file. Raises AudioError."""
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in stages]
        running: list[subprocess.Popen[bytes]] = []
        try:
            for number, stage in enumerate(stages):
                before = running[-1].stdout if running else None
                running.append(
                    subprocess.Popen(  # noqa: S603 - of the card's own list
                        list(stage),
                        cwd=folder,
                        stdin=subprocess.DEVNULL if before is None else before,
                        stdout=output if number == len(stages) - 1 else subprocess.PIPE,
                        stderr=said[number],
                    )
                )
                if before is not None:
                    before.close()  # so that a program whose reader has ended is told so
            for process in running:
                process.wait(_TIME_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise AudioError(f"{where}: {stages[-1][0]} ran for more than {_TIME_LIMIT} s, and was stopped") from error
        except OSError as error:
            raise AudioError(f"{where}: {stages[len(running)][0]} can't be run ({error.strerror})") from error
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        # The last that failed is told first: one before it may only have lost its reader.
        for stage, process, file in reversed(list(zip(stages, running, said, strict=True))):
            if process.returncode != 0:
                file.seek(0)
                lines = file.read(10_000).decode("utf-8", "replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
                raise AudioError(f"{where}: {stage[0]} failed with exit code {process.returncode}: {last[:200]}")
    if output.seek(0, os.SEEK_END) == 0:
        raise AudioError(f"{where}: {stages[-1][0]} wrote nothing")
