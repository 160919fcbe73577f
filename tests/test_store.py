"""Results on disk: what is written is read back, and what can't be trusted is not."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))  # small_lab.py

from small_lab import write_level

from diarbench import memo, store
from diarbench.errors import AdapterError, StoreError
from diarbench.store import RunFolder, holds
from diarbench.types import LabelledRecording, Recording, Timing, Turns

RECORDING = Recording("r", None, 1.0, 16000)
RUN: dict[str, Any] = {
    "key": "0", "machine": "box", "system": "s", "dataset": "d", "device": "cpu", "threads": 1,
    "identity": {"dataset": "0"}, "card": {"title": "S"},
}  # fmt: skip


def put(folder: RunFolder, name: str = "r", turns: Turns | None = None, **how: Any) -> None:
    """Store a result."""
    turns = turns if turns is not None else Turns.of([(0.0, 1.0, "A")])
    how = {"timing": Timing(0.5, 1.0, {"vad": 0.1}), "audio": None, "timing_problem": None, **how}
    timing = how.pop("timing")
    folder.write_result(name, turns, timing, "session", **how)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


speakers = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
times = st.floats(-1e-3, 1e6, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(times, times, speakers), max_size=6))
def test_whatever_an_adapter_may_say_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows):
    """To a millisecond, with the same speakers; or it is refused before anything is written."""
    rows = [(min(start, end), max(start, end), speaker) for start, end, speaker in rows]
    try:
        turns = Turns.from_output(rows)
    except AdapterError:
        return
    folder = RunFolder(tmp_path_factory.mktemp("run", numbered=True))
    put(folder, turns=turns)
    assert folder.is_done(RECORDING)
    back = sorted((round(t.start, 3), round(t.end, 3), t.speaker) for t in folder.hypothesis("r"))
    rounded = [(max(0.0, round(t.start, 3)), round(t.end, 3), t.speaker) for t in turns]
    assert back == sorted(turn for turn in rounded if turn[1] - turn[0] > 0.0005)


def test_results_and_failures(folder: RunFolder):
    assert folder.result("r") is None
    assert not folder.is_done(RECORDING)
    put(folder)
    assert folder.is_done(RECORDING)
    stored = folder.stored("r")
    assert stored is not None
    assert stored.intact
    assert stored.result["timing"] == {"wall": 0.5, "audio": 1.0, "stages": {"vad": 0.1}}
    assert stored.result["timing_counts"] is True
    put(folder, timing_problem="busy")
    assert folder.result("r")["timing_counts"] is False
    put(folder, timing=None)
    assert (folder.result("r")["timing"], folder.result("r")["timing_counts"]) == (None, False)
    folder.write_failure("r", "it broke", "trace", "session")
    assert not folder.is_done(RECORDING)
    assert not folder.rttm_path("r").exists()
    assert folder.all_stored()["r"].result == {
        "format": 1, "recording": "r", "status": "failed", "session": "session", "error": "it broke"
    }  # fmt: skip
    assert folder.result("r")["detail"] == "trace"


def test_multiply_accumulates(folder: RunFolder):
    put(folder, macs={"vad": 3, "embedding": None}, macs_problem="embedding: it is quantized")
    stored = folder.result("r")
    assert stored["macs"] == {"vad": 3, "embedding": None}
    assert stored["macs_problem"] == "embedding: it is quantized"
    path = folder.rttm_path("r").with_suffix(".json")
    older = {key: value for key, value in stored.items() if not key.startswith("macs")}
    path.write_text(json.dumps(older))
    assert folder.is_done(RECORDING)
    for broken in (3, [1], {"vad": -1}, {"vad": 1.5}, {"vad": True}, {"vad": "3"}):
        path.write_text(json.dumps({**stored, "macs": broken}))
        assert folder.result("r") is None
    path.write_text(json.dumps({**stored, "macs_problem": 3}))
    assert folder.result("r") is None


def test_nothing_that_is_no_number_is_stored(folder: RunFolder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        put(folder, timing=Timing(float("nan"), 1.0))
    assert not folder.is_done(RECORDING)
    assert list(folder.path.rglob(".writing-*")) == []


@pytest.mark.parametrize("name", ["../r", ".r", "a/b", "a b", "", "r\n", "x" * 300])
def test_ids_that_are_no_file_names(folder: RunFolder, name: str):
    from diarbench.errors import RttmError

    for call in (folder.rttm_path, folder.result, folder.hypothesis):
        with pytest.raises(RttmError):
            call(name)


def test_audio_is_known_by_size_time_and_content(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "r.wav"
    write_level(path, 0.1)
    recording = Recording("r", path, 0.2, 8000)
    described = store.describe_audio(recording)
    assert described is not None
    assert described["bytes"] == path.stat().st_size
    put(folder, audio=described)
    reads = []
    monkeypatch.setattr(store, "sha256_of", lambda path, digest=store.sha256_of: (reads.append(path), digest(path))[1])
    assert folder.is_done(recording)
    assert path not in reads
    os.utime(path, (5, 5))
    stored = folder.stored("r")
    assert holds(stored, recording)
    assert holds(stored, recording)
    assert reads.count(path) == 1  # for all systems of a run together
    write_level(path, 0.2)
    os.utime(path, (6, 6))
    assert not holds(stored, recording)
    path.unlink()
    assert not holds(stored, recording)
    assert store.describe_audio(recording) is None
    assert store.describe_audio(RECORDING) is None
    folder.note_audio(RECORDING)
    folder.note_audio(Recording("never", None, 1.0, 8000))


def test_a_lock_is_waited_for(folder: RunFolder):
    waited: list[float] = []
    with folder.locked():
        thread = threading.Thread(target=lambda: wait_for(folder, waited))
        thread.start()
        time.sleep(0.3)
        assert len(waited) == 1
        let_go = time.monotonic()
    thread.join(5)
    assert waited[0] < let_go <= waited[1]
    with pytest.raises(RuntimeError, match="give up"), folder.locked(), folder.locked(give_up):
        pass
    with folder.locked():
        pass


def wait_for(folder: RunFolder, waited: list[float]) -> None:
    with folder.locked(lambda: waited.append(time.monotonic())):
        waited.append(time.monotonic())


def give_up() -> None:
    raise RuntimeError("give up")


def test_users_who_share_a_folder_share_its_lock(folder: RunFolder):
    with folder.locked():
        pass
    assert (folder.path / ".lock").stat().st_mode & 0o666 == 0o666


def test_leftovers_go_with_the_lock(folder: RunFolder):
    put(folder)
    for place in (folder.path, folder.path / "recordings", folder.path / "sessions"):
        place.mkdir(exist_ok=True)
        (place / ".writing-abc").touch()
    assert folder.all_stored().keys() == {"r"}
    with folder.locked():
        assert list(folder.path.rglob(".writing-*")) == []
    assert folder.is_done(RECORDING)


def test_a_file_system_without_locks_is_one_line(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    import filelock

    def no_locks(self: object, timeout: float | None = None) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with pytest.raises(StoreError, match=r"can't be written or locked \(no flock here\)"), folder.locked():
        pass


def test_run_json(folder: RunFolder):
    folder.ensure_run(RUN)
    assert folder.run == {"format": 1, **RUN, "complexity": None}
    folder.write_run({**RUN, "complexity": {"parameters": 3}})
    folder.ensure_run({**RUN, "card": {"title": "T"}})
    assert folder.run["complexity"] == {"parameters": 3}  # a process that couldn't build the system takes nothing away
    assert folder.run["card"] == {"title": "T"}
    assert RunFolder(folder.path).run == folder.run
    before = (folder.path / "run.json").stat().st_mtime_ns
    folder.ensure_run({**RUN, "card": {"title": "T"}})
    assert (folder.path / "run.json").stat().st_mtime_ns == before
    for text, message in {
        "{": "can't be read",
        "[]": "another version",
        '{"format": 2}': "another version",
        '{"format": 1, "machine": "box"}': "lacks the key 'system'",
    }.items():
        (folder.path / "run.json").write_text(text)
        with pytest.raises(StoreError, match=f"run.json: .*{message}"):
            _ = RunFolder(folder.path).run


def test_sessions_come_in_the_order_of_their_start(folder: RunFolder):
    for session, started in (("b", "2026-01-01T00:00:02"), ("c", "2026-01-01T00:00:01"), ("a", "2026-01-01T00:00:02")):
        folder.write_session(store.new_session(session, started))
    assert [session["session"] for session in folder.sessions] == ["c", "a", "b"]
    assert folder.newest == "2026-01-01T00:00:02"
    assert RunFolder(folder.path / "nothing").newest == ""


def test_texts_are_stored_without_the_home_folder(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    home = tmp_path / "home-of-somebody"
    monkeypatch.setenv("HOME", str(home))
    folder.write_run({**RUN, "card": {"options": {"deep": [{"path": f"{home}/x"}]}}})
    folder.write_failure("r", f"{home}/y", f"at {home}/z", "session")
    folder.write_session({**store.new_session("s", "t"), "settings": {"environment": {"A": str(home)}}})
    for path in folder.path.rglob("*.json"):
        assert "somebody" not in path.read_text()
    assert folder.run["card"]["options"]["deep"][0]["path"].endswith("/x")


def test_references_are_stored_once_and_checked(tmp_path: Path):
    recording = LabelledRecording(RECORDING, Turns.of([(0.0, 0.123456, "A")]), ((0.0, 1.0),))
    silent = LabelledRecording(Recording("silent", None, 1.0, 16000), Turns.of([]), ((0.0, 0.5), (0.6, 1.0)))
    facts = {"title": "D", "licence": "CC0"}

    def put_dataset(**more: Any) -> Path:
        store.store_dataset(tmp_path, "box", "d", "0123456789abcdef", {**facts, **more}, [recording, silent])
        return tmp_path / "box" / "_datasets" / "d" / "0123456789ab"

    folder = put_dataset()
    (found,) = store.find_datasets([tmp_path]).values()
    assert found.references == {"r": recording.reference, "silent": silent.reference}
    assert found.uems == {"r": recording.uem, "silent": silent.uem}
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    put_dataset()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    put_dataset(title="E")
    assert {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before[path]} == {"dataset.json"}
    (folder / "evaluation.uem").unlink()
    (folder / ".writing-x").touch()
    (found,) = store.find_datasets([tmp_path]).values()
    assert found.facts["title"] == "E"
    with pytest.raises(StoreError, match=r"evaluation\.uem: not the file that was stored"):
        _ = found.uems
    put_dataset()
    (found,) = store.find_datasets([tmp_path]).values()
    assert found.uems["r"] == ((0.0, 1.0),)
    assert not (folder / ".writing-x").exists()


def test_a_machine_and_what_was_left_beside_it(tmp_path: Path):
    facts = {"cpu": "X", "logical_cores": 2, "memory_bytes": 8 << 30, "gpus": []}
    old, young = tmp_path / ".writing-old", tmp_path / ".writing-young"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    store.store_machine(tmp_path, "box", facts)
    assert (old.exists(), young.exists()) == (False, True)  # nobody locks this folder: it may be written just now
    store.store_machine(tmp_path, "box", {**facts, "gpus": []})
    assert store.find_machines([tmp_path]) == {"box": {"format": 1, "name": "box", **facts}}
    with pytest.raises(StoreError, match="stands for another machine"):
        store.store_machine(tmp_path, "box", {**facts, "logical_cores": 64})
    store.store_machine(tmp_path, "other", {**facts, "logical_cores": 64})
    known = {**facts, "cpu_generation": "family 25, model 1"}
    store.store_machine(tmp_path, "box", known)  # what was stored before didn't know that yet
    with pytest.raises(StoreError, match="stands for another machine"):
        store.store_machine(tmp_path, "box", {**known, "cpu_generation": "family 25, model 17"})
    assert set(store.find_machines([tmp_path])) == {"box", "other"}


# Reading many results


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of 260 recordings that were stored some time ago, and a cache of its own."""
    monkeypatch.setenv("DIARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.fsync", lambda handle: None)
    folder = RunFolder(tmp_path / "run")
    for number in range(260):
        put(folder, f"r{number:03d}")
    for path in (folder.path / "recordings").iterdir():
        os.utime(path, (1000, 1000))
    return folder


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reads: list[str] = []
    read = RunFolder.stored
    monkeypatch.setattr(RunFolder, "stored", lambda self, name: (reads.append(name), read(self, name))[1])
    return reads


def test_files_that_have_not_changed_are_not_read_again(many: RunFolder, monkeypatch: pytest.MonkeyPatch):
    reads = count_reads(monkeypatch)
    first = many.all_stored()
    assert len(reads) == len(first) == 260
    reads.clear()
    assert many.all_stored() == first
    assert reads == []
    # An edit is seen by its size or its time, in either file.
    path = many.rttm_path("r007")
    path.write_bytes(path.read_bytes().replace(b" A ", b" B "))
    json_path = many.rttm_path("r008").with_suffix(".json")
    json_path.write_text(json_path.read_text().replace('"wall": 0.5', '"wall": 0.25'))
    os.utime(json_path, (1000, 1000))
    many.rttm_path("r009").unlink()
    many.rttm_path("r010").with_suffix(".json").unlink()
    found = many.all_stored()
    assert sorted(reads) == ["r007", "r008", "r009"]
    assert not found["r007"].intact
    assert found["r008"].result["timing"]["wall"] == 0.25
    assert not found["r009"].intact
    assert "r010" not in found
    assert all(found[name] == first[name] for name in first if name not in ("r007", "r008", "r009", "r010"))


def test_files_that_changed_just_now_are_read_again(many: RunFolder, monkeypatch: pytest.MonkeyPatch):
    """They may have changed again within the same tick of the file system's clock."""
    for number in range(5):
        put(many, f"r{number:03d}")
    many.all_stored()
    reads = count_reads(monkeypatch)
    many.all_stored()
    assert sorted(reads) == [f"r{number:03d}" for number in range(5)]


def test_what_was_kept_may_be_lost_or_spoilt(many: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = many.all_stored()
    (kept,) = (tmp_path / "cache").rglob("*.json")
    for content in (b"", b"{", b"[]", b'{"r001": [[0, 0, 0, 0], {}, true]}'):
        kept.write_bytes(content)
        assert many.all_stored() == first
    monkeypatch.setenv("DIARBENCH_CACHE", str(kept))  # a file: nothing can be kept there
    assert many.all_stored() == first
    monkeypatch.setenv("DIARBENCH_CACHE", str(tmp_path / "cache"))
    many.path.rename(tmp_path / "moved")
    reads = count_reads(monkeypatch)
    assert RunFolder(tmp_path / "moved").all_stored() == first
    assert len(reads) == 260


def test_small_runs_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIARBENCH_CACHE", str(tmp_path / "cache"))
    folder = RunFolder(tmp_path / "run")
    put(folder)
    assert set(folder.all_stored()) == {"r"}
    assert not (tmp_path / "cache").exists()
    assert memo.recall(folder.path, "anything") == {}
