from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from diarbench.adapters import Command, Replay
from diarbench.errors import AdapterError, InputError, MissingRequirementError, RttmError
from diarbench.types import Audio, Recording, Turns

RTTM = "SPEAKER %s 1 0.5 1.0 <NA> <NA> A <NA> <NA>\\n"


def audio(recording_id: str = "rec", rate: int = 16000, channels: int = 1, level: float = 0.5) -> Audio:
    samples = np.full((channels, rate), level, dtype=np.float32)
    samples.flags.writeable = False
    return Audio(Recording(recording_id, None, 1.0, rate), samples)


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def command(code: str, *words: str, time_limit: float = 30.0, files=None, device: str = "cpu") -> Command:
    return Command(command=python(code, *words), time_limit=time_limit, device=device, files=files or {})


WRITE = f"import sys; open(sys.argv[2], 'w').write('{RTTM}' % sys.argv[3])"
PRINT = f"import sys; print('{RTTM}' % sys.argv[2])"
WORDS = ("{audio}", "{output}", "{id}")


# --- Command


def test_a_program_that_writes_an_rttm():
    assert list(command(WRITE, *WORDS).diarize(audio())) == [(0.5, 1.5, "A")]


def test_a_program_that_prints_its_turns():
    assert list(command(PRINT, "{audio}", "{id}").diarize(audio())) == [(0.5, 1.5, "A")]


def test_what_a_program_prints_does_not_matter_where_it_writes():
    code = f"print('loading ...'); {WRITE}"
    assert len(command(code, *WORDS).diarize(audio())) == 1


def test_the_wav_is_what_the_system_was_handed(tmp_path):
    code = (
        "import sys, soundfile\n"
        "info = soundfile.info(sys.argv[1]); samples, _ = soundfile.read(sys.argv[1])\n"
        "facts = [info.samplerate, info.channels, info.frames, info.subtype, samples.max(), samples.min()]\n"
        "print(*facts, file=open(sys.argv[2], 'w'))"
    )
    note = tmp_path / "note"
    command(code, "{audio}", "{note}", files={"note": note}).diarize(audio(rate=8000, channels=2))
    assert note.read_text().split() == ["8000", "2", "8000", "PCM_16", "0.5", "0.5"]
    # Louder than a 16-bit WAV can be: cut off at full scale, never wrapped around to the other sign.
    command(code, "{audio}", "{note}", files={"note": note}).diarize(audio(level=1.5))
    assert float(note.read_text().split()[4]) == pytest.approx(1.0, abs=1e-4)


def test_words_are_filled_in_once(tmp_path):
    """An id or a path that looks like a placeholder stays as it is."""
    note = tmp_path / "note"
    code = "import sys; open(sys.argv[2], 'w').write('|'.join(sys.argv[3:]))"
    words = ("{audio}", "{note}", "--on={device}", "{id}", '{"json": 1}', "{other}", "{model-file}")
    files = {"note": note, "model-file": Path("/w/{id}.bin")}
    command(code, *words, files=files, device="cuda").diarize(audio("{output}"))
    assert note.read_text() == '--on=cuda|{output}|{"json": 1}|{other}|/w/{id}.bin'


def test_no_shell_reads_the_words(tmp_path):
    words = ("{audio}", "$HOME", "`touch x`", "; touch x", "*", f"{tmp_path}/note")
    code = "import sys; open(sys.argv[-1], 'w').write('|'.join(sys.argv[2:-1]))"
    command(code, *words).diarize(audio())
    assert (tmp_path / "note").read_text() == "$HOME|`touch x`|; touch x|*"


def test_an_empty_output_says_that_nobody_speaks():
    assert command("import sys; open(sys.argv[2], 'w')", *WORDS).diarize(audio()) == Turns.of([])
    assert command("pass", "{audio}").diarize(audio()) == Turns.of([])


def test_no_output_is_an_error():
    with pytest.raises(AdapterError, match=r"ended well, but wrote no RTTM to \{output\}"):
        command("pass", *WORDS).diarize(audio())


def test_turns_of_another_recording():
    with pytest.raises(AdapterError, match="wrote turns of 'other', not of 'rec'"):
        command(WRITE, "{audio}", "{output}", "other").diarize(audio())


def test_a_failing_program_says_why():
    code = "import sys; print('first', file=sys.stderr); sys.exit('out of models')"
    with pytest.raises(AdapterError, match=r"failed with exit code 1: out of models$"):
        command(code, *WORDS).diarize(audio())
    with pytest.raises(AdapterError, match=r"failed with exit code 3: no message$"):
        command("import sys; sys.exit(3)", *WORDS).diarize(audio())
    with pytest.raises(AdapterError, match=r"failed with exit code 1: caf"):
        command("import os; os.write(2, b'caf\\xe9'); os._exit(1)", *WORDS).diarize(audio())


def test_a_failure_counts_although_there_is_an_rttm():
    with pytest.raises(AdapterError, match="exit code 1"):
        command(WRITE + "; sys.exit(1)", *WORDS).diarize(audio())


def test_a_missing_program():
    with pytest.raises(MissingRequirementError, match="'no-such-program' is not there; install it, or mend the card"):
        Command(command=["no-such-program", "{audio}"], files={}).diarize(audio())


def test_a_program_that_can_not_be_started(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o644)
    with pytest.raises(MissingRequirementError, match="can't be started"):
        Command(command=["{program}", "{audio}"], files={"program": tmp_path / "script"}).diarize(audio())


def test_a_broken_rttm_is_named_with_its_line():
    with pytest.raises(RttmError, match=r"rec\.rttm, line 1: 'loading' is no RTTM line type"):
        command("print('loading models')", "{audio}").diarize(audio())


def test_a_program_gets_no_input():
    """The worker's own input tells it when its parent is gone: no program may read that away."""
    kept, (reader, writer) = os.dup(0), os.pipe()
    try:
        os.write(writer, b"not for you")
        os.close(writer)
        os.dup2(reader, 0)
        code = "import sys; assert sys.stdin.read() == ''"
        assert command(code, "{audio}").diarize(audio()) == Turns.of([])
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)


def test_a_program_that_takes_too_long_is_ended(tmp_path):
    code = "import os, sys, time; open(sys.argv[2], 'w').write(str(os.getpid())); time.sleep(60)"
    before = time.monotonic()
    with pytest.raises(AdapterError, match=r"took over 0\.5 s \(time_limit\) and was ended"):
        command(code, "{audio}", "{note}", files={"note": tmp_path / "pid"}, time_limit=0.5).diarize(audio())
    assert time.monotonic() - before < 10
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_what_a_script_started_ends_with_it(tmp_path):
    """A shell that is killed leaves its child, which holds our pipes and the processor."""
    script = f"{sys.executable} -c 'import time; time.sleep(60)' & echo $! > $1; wait"
    before = time.monotonic()
    with pytest.raises(AdapterError, match="time_limit"):
        Command(
            command=["sh", "-c", script, "sh", "{note}", "{audio}"], time_limit=0.7, files={"note": tmp_path / "pid"}
        ).diarize(audio())
    assert time.monotonic() - before < 10
    child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the child still runs"
        time.sleep(0.05)


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command(WRITE, *WORDS).diarize(audio())
    with pytest.raises(AdapterError):
        command("import sys; sys.exit(1)", *WORDS).diarize(audio())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"command": []}, "command must be a list of words"),
        ({"command": ["x", 5]}, "command must be a list of words"),
        ({"command": ["x", "{output}"]}, "one of its words needs {audio}"),
        ({"command": ["x", "{audio}"], "time_limit": 0}, "time_limit must be positive"),
        ({"command": ["x", "{audio}"], "files": {"output": Path("x")}}, "[files] can't have the name 'output'"),
    ],
)
def test_cards_that_can_not_be_right(options, says):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the words are checked below
        Command(**{"files": {}, **options})
    assert says in str(error.value)


# --- Replay


def replay(place: Path) -> Replay:
    return Replay(files={"hypotheses": place})


def rttm(recording: str, start: float = 0.5) -> str:
    return f"SPEAKER {recording} 1 {start} 1.0 <NA> <NA> A <NA> <NA>\n"


def test_stored_turns_from_a_file_and_from_a_folder(tmp_path):
    (tmp_path / "all.rttm").write_text(rttm("rec") + rttm("other"))
    assert list(replay(tmp_path / "all.rttm").diarize(audio())) == [(0.5, 1.5, "A")]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "third.rttm").write_text(rttm("third"))
    folder = replay(tmp_path)
    assert [len(folder.diarize(audio(name))) for name in ("rec", "other", "third")] == [1, 1, 1]


def test_a_gap_is_no_empty_hypothesis(tmp_path):
    (tmp_path / "silent.rttm").write_text("")
    (tmp_path / "rec.rttm").write_text(rttm("rec"))
    stored = replay(tmp_path)
    assert stored.diarize(audio("silent")) == Turns.of([])
    with pytest.raises(AdapterError, match=r"holds no RTTM for the recording 'gone', but for rec, silent$"):
        stored.diarize(audio("gone"))


def test_of_many_ids_the_nearest_are_named(tmp_path):
    (tmp_path / "all.rttm").write_text("".join(rttm(name) for name in ("a", "b", "c", "d", "kitchen.wav")))
    with pytest.raises(AdapterError, match=r"'kitchen', but for kitchen\.wav, a, b and 2 more$"):
        replay(tmp_path).diarize(audio("kitchen"))


def test_a_folder_without_outputs_is_no_system(tmp_path):
    with pytest.raises(InputError, match=r"no \.rttm file in this folder"):
        replay(tmp_path)


def test_one_recording_in_two_stored_files(tmp_path):
    (tmp_path / "a.rttm").write_text(rttm("rec"))
    (tmp_path / "b.rttm").write_text(rttm("rec", 3.0))
    with pytest.raises(InputError, match=r"b\.rttm: the recording id 'rec' is in another RTTM file too"):
        replay(tmp_path)


def test_stored_turns_are_read_strictly(tmp_path):
    (tmp_path / "a.rttm").write_text(rttm("rec") + "broken\n")
    with pytest.raises(RttmError, match=r"a\.rttm, line 2"):
        replay(tmp_path)


def test_nothing_is_timed_and_no_audio_read():
    assert not Replay.timed
    assert not Replay.needs_audio


def test_replay_needs_its_folder():
    with pytest.raises(ValueError, match=r"Replay needs \[files\] DATASET"):
        Replay(files={})
