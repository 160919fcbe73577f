"""What is run again and what is kept, disks that can't be written, and what a result depends on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_lab import PLAIN, Lab, write_level

from diarbench.errors import StoreError
from diarbench.loaders import Dataset
from diarbench.measure.machine import fingerprint, machine_name
from diarbench.types import Recording


def audio_of(dataset: Dataset, position: int = 0) -> Path:
    recording: Recording = dataset.recordings[position].recording
    assert recording.path is not None
    return recording.path


# What is done again


def test_a_second_run_does_nothing(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    assert lab.run(system, dataset).done == 3
    assert lab.shown.begun == (3, pytest.approx(0.6))
    before = {path: path.stat().st_mtime_ns for path in lab.runs.rglob("*") if path.is_file()}
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept, outcome.failures) == (0, 3, ())
    assert lab.shown.begun == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in lab.runs.rglob("*") if path.is_file()} == before
    assert outcome.folders["plain", "mine"] == lab.folder("plain")


def test_only_what_is_missing(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    assert lab.run(system, dataset, limit=2).done == 2
    before = lab.sessions_of_results("plain")
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept) == (1, 2)
    assert before.items() <= lab.sessions_of_results("plain").items()


def test_audio_that_was_replaced_is_run_again(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.run(system, dataset)
    size = audio_of(dataset).stat().st_size
    write_level(audio_of(dataset), 0.3)
    assert audio_of(dataset).stat().st_size == size
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept) == (1, 2)
    assert b" 0.300 " in lab.folder("plain").rttm_path("a").read_bytes()


def test_audio_that_was_touched_is_not(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.run(system, dataset)
    os.utime(audio_of(dataset), (1, 1))
    assert lab.run(system, dataset).kept == 3
    # And it is read whole once only, though not while another run holds the folder.
    from diarbench import store

    store._audio_digest.cache_clear()
    monkeypatch.setattr(store, "sha256_of", lambda path: pytest.fail(f"{path} was read") if path.suffix == ".wav" else
                        __import__("hashlib").sha256(path.read_bytes()).hexdigest())  # fmt: skip
    assert lab.run(system, dataset).kept == 3
    assert lab.folder("plain").result("a")["audio"]["mtime_ns"] == 1_000_000_000


def test_audio_touched_while_another_run_holds_the_folder(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.run(system, dataset)
    os.utime(audio_of(dataset), (1, 1))
    with lab.folder("plain").locked():
        before = time.monotonic()
        assert lab.run(system, dataset).kept == 3
        assert time.monotonic() - before < 5


def test_a_damaged_rttm_is_shown_and_made_again(lab: Lab):
    damages: dict[str, Callable[[Path], object]] = {
        "edited": lambda path: path.write_text(path.read_text().replace(" A ", " C ")),
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
        "emptied": lambda path: path.write_bytes(b""),
        "removed": lambda path: path.unlink(),
        "swapped": lambda path: shutil.copy(path.with_stem("whole"), path),
        "folder": lambda path: (path.unlink(), path.mkdir()),
    }
    system, dataset = lab.system("plain"), lab.dataset(ids=["whole", *damages])
    lab.run(system, dataset)
    run, before, whole = lab.folder("plain"), lab.sessions_of_results("plain"), lab.rttms()
    for name, damage in damages.items():
        damage(run.rttm_path(name))
    message = "its stored RTTM is not the one that the run wrote; run the system again"
    assert lab.entry("plain").scores["mine"].failures == dict.fromkeys(damages, message)
    run.rttm_path("folder").rmdir()
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept) == (len(damages), 1)
    assert lab.rttms() == whole
    after = lab.sessions_of_results("plain")
    assert {name for name in before if before[name] == after[name]} == {"whole"}
    assert lab.entry("plain").scores["mine"].complete


def test_a_damaged_json_counts_as_not_done(lab: Lab):
    damages: dict[str, bytes | None] = {
        "empty": b"",
        "truncated": b"{",
        "null": b"null",
        "list": b"[]",
        "binary": b"\xff\xfe",
        "newer": b'{"format": 2, "recording": "newer", "status": "done"}',
        "bare": b'{"format": 1, "recording": "bare", "status": "done"}',
        "unsaid": b'{"format": 1, "recording": "unsaid", "status": "failed"}',
        "half": b'{"format": 1, "recording": "half", "status": "half"}',
        "removed": None,
    }
    system, dataset = lab.system("plain"), lab.dataset(ids=["whole", *damages, "swapped"])
    lab.run(system, dataset)
    run = lab.folder("plain")
    whole = run.rttm_path("whole").with_suffix(".json").read_bytes()
    for name, content in {**damages, "swapped": whole}.items():
        path = run.rttm_path(name).with_suffix(".json")
        path.write_bytes(content) if content is not None else path.unlink()
    assert set(lab.entry("plain").scores["mine"].missing) == {*damages, "swapped"}
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept) == (len(damages) + 1, 1)
    assert lab.entry("plain").scores["mine"].complete


@pytest.mark.parametrize("broken", ["run.json", "machine.json", "dataset.json"])
def test_other_damaged_files_are_one_line_or_mended(lab: Lab, broken: str):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.run(system, dataset)
    (path,) = lab.runs.rglob(broken)
    path.write_text("{")
    with pytest.raises(StoreError, match=f"{broken}: can't be read .*; remove it") as caught:
        lab.board()
    assert "\n" not in str(caught.value)
    path.unlink()
    assert lab.run(system, dataset).kept == 3
    assert lab.entry("plain").scores["mine"].complete


def test_references_that_were_copied_half_are_seen(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.run(system, dataset)
    (path,) = lab.runs.rglob("reference.rttm")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"reference\.rttm: not the file that was stored"):
        lab.board()
    lab.run(system, dataset)
    assert lab.entry("plain").scores["mine"].complete


# What the key depends on


def test_what_makes_another_run(lab: Lab):
    dataset = lab.dataset()
    weights = lab.path / "weights.bin"
    weights.write_bytes(b"one")
    card = f'[weights.net]\npath = "{weights}"'
    lab.run(lab.system("plain", card=card), dataset)
    runs = 1

    def another(**how: object) -> None:
        nonlocal runs
        runs += 1
        made = how.pop("dataset", dataset)
        assert lab.run(lab.system("plain", **{"card": card, **how}), made).done == 3  # type: ignore[arg-type]
        assert len(lab.folders("plain")) == runs

    another(seconds=0.001)
    another(code=PLAIN + "\n# other code\n")
    weights.write_bytes(b"two")
    another()
    (lab.path / "datasets" / "mine" / "reference.rttm").write_text(
        "".join(f"SPEAKER {name} 1 0.0 0.1 <NA> <NA> A <NA> <NA>\n" for name in "abc")
    )
    another(dataset=reloaded(lab))
    runs += 1
    assert lab.run(lab.system("plain", card=card), reloaded(lab), threads=2).done == 3
    assert len(lab.folders("plain")) == runs


def reloaded(lab: Lab) -> Dataset:
    from diarbench.cards import DatasetCard, read_card
    from diarbench.loaders import load_dataset

    card = lab.path / "datasets" / "mine.toml"
    return load_dataset("mine", card, read_card(card, DatasetCard))


def test_a_changed_title_is_no_other_run_and_is_shown(lab: Lab):
    dataset = lab.dataset()
    system = lab.system("plain")
    lab.run(system, dataset)
    card = lab.path / "systems" / "plain" / "plain.toml"
    card.write_text(card.read_text().replace('"plain"', '"Another title"').replace("[options]", "baseline = 'x'"))
    from diarbench.cards import SystemCard, expand, read_card

    renamed = expand("plain", card, read_card(card, SystemCard))[0]
    assert lab.run(renamed, dataset).kept == 3
    assert (lab.entry("plain").title, lab.entry("plain").baseline) == ("Another title", "x")
    text = lab.path / "datasets" / "mine.toml"
    text.write_text(text.read_text().replace('title = "mine"', 'title = "Another dataset"'))
    assert lab.run(renamed, reloaded(lab)).kept == 3
    assert lab.board().columns[0].title == "Another dataset"


def test_a_name_stands_for_one_machine(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    facts = fingerprint()
    lab.run(system, dataset, facts=facts)
    lab.run(system, dataset, facts={**facts, "system": "Linux 99"})
    other = {**facts, "cpu": "Another CPU"}
    with pytest.raises(StoreError, match="'box' stands for another machine") as caught:
        lab.run(system, dataset, facts=other)
    assert machine_name(other) in str(caught.value)
    assert json.loads((lab.runs / "box" / "machine.json").read_text())["system"] == "Linux 99"


# Disks


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """A file system of 192 KiB."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    lab.runs.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(lab.runs)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this system does not let root mount a file system")
    try:
        yield lab.runs
    finally:
        subprocess.run(["umount", "--lazy", str(lab.runs)], check=True)


def command(lab: Lab, *more: str) -> list[str]:
    system, dataset = lab.path / "systems" / "plain" / "plain.toml", lab.path / "datasets" / "mine.toml"
    found = [sys.executable, "-m", "diarbench", "run", "-s", str(system), "-d", str(dataset), "--machine", "box"]
    return [*found, "--runs", str(lab.runs), *more]


def test_a_full_disk(lab: Lab, small_disk: Path):
    lab.system("plain")
    lab.dataset(ids=[f"r{i:02d}" for i in range(40)], seconds=0.05)
    blocks: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            blocks.append(small_disk / f"block{len(blocks)}")
            blocks[-1].write_bytes(bytes(4096))
    for full_by in (0, 15):  # not even the first file fits; some do
        for _ in range(full_by):
            blocks.pop().unlink(missing_ok=True)
        done = subprocess.run(command(lab), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert "space left on" in last.lower()
        assert lab.leftovers() == []
        assert all(path.stat().st_size > 0 for path in lab.runs.rglob("*.json"))
        for run in lab.folders():
            assert all(stored.intact for stored in run.all_stored().values())
    stored = {path: path.stat().st_mtime_ns for path in lab.runs.rglob("recordings/*.json")}
    assert 0 < len(stored) < 40
    for block in blocks:
        block.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=8m", str(lab.runs)], check=True)
    done = subprocess.run(command(lab, "--format", "json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["done"], result["kept"]) == (40 - len(stored), len(stored))
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    # And read-only.
    subprocess.run(["mount", "-o", "remount,ro", str(lab.runs)], check=True)
    done = subprocess.run(command(lab, "--again"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Read-only file system" in done.stderr
    assert lab.entry("plain").scores["mine"].complete  # reading needs no writing


FULL_AFTER = """
import errno, os, sys
if "diarbench.execute.worker" in sys.orig_argv:
    left = int(os.environ["FULL_AFTER"])
    sync = os.fsync
    def fsync(handle):
        global left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)
    os.fsync = fsync
"""


@pytest.mark.parametrize("after", [0, 2, 4, 6, 7, 14])
def test_a_disk_that_fills_up_meanwhile(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int):
    """Played to the worker, so that it is tested where nothing can be mounted."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(FULL_AFTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("FULL_AFTER", str(after))
    system, dataset = lab.system("plain"), lab.dataset()
    with pytest.raises(StoreError, match="no space left on the disk; free some and run the same command again"):
        lab.run(system, dataset)
    assert lab.leftovers() == []
    monkeypatch.delenv("PYTHONPATH")
    outcome = lab.run(system, dataset)
    assert outcome.failures == ()
    assert outcome.done + outcome.kept == 3
    assert outcome.kept == max(0, min(3, (after - 3) // 3))  # four syncs before the first result, three for each


def test_results_where_there_is_a_file(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.runs.write_text("not a folder")
    with pytest.raises(StoreError, match=r"can't be written or locked \((File exists|Not a directory)\)"):
        lab.run(system, dataset)
    assert lab.runs.read_text() == "not a folder"
    done = subprocess.run(command(lab), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_results_in_a_folder_that_cannot_be_written(lab: Lab):
    system, dataset = lab.system("plain"), lab.dataset()
    lab.runs.mkdir()
    lab.runs.chmod(0o555)
    if os.access(lab.runs, os.W_OK):
        pytest.skip("root may write everywhere; the test of a full disk ends with a read-only one")
    with pytest.raises(StoreError, match="Permission denied"):
        lab.run(system, dataset)


# Privacy


def test_results_name_no_person_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Everything lies in a home folder: cards, weights, audio, results; and something fails in every way."""
    home = tmp_path / "home-of-somebody"
    (home / "temporary").mkdir(parents=True)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home / "temporary"))
    monkeypatch.chdir(home)
    lab = Lab(home / "lab")
    weights = lab.path / "weights.bin"
    dataset = lab.dataset()
    weights.write_bytes(b"one")
    code = """
        from pathlib import Path
        class System:
            def __init__(self, *, place, many, weights=None):
                assert "somebody" in place and "somebody" in many["deep"][0]
            def diarize(self, audio):
                if audio.recording.id == "b":
                    raise FileNotFoundError(2, "not there", str(Path.home() / "secret"))
                return [(0, 0.1, "A")]
    """
    card = f'[weights.net]\npath = "{weights}"\n[compression]\nmade_from = "{home}/teacher"'
    fine = lab.system("fine", code, card=card, place=str(home / "x"))
    fine = fine.model_copy(update={"options": {**fine.options, "many": {"deep": [str(home / "y")]}}})
    systems = [fine, lab.system("unbuilt", "1 / 0"), lab.system("dead", "import os; os._exit(1)")]
    systems.append(lab.system("weightless", card='[weights.net]\npath = "no/such/file"'))
    outcome = lab.run(systems, dataset, facts=fingerprint())
    assert len(outcome.failures) == 4
    assert outcome.done == 2
    secrets = {str(home), "somebody"}
    if len(socket.gethostname()) > 5:  # a shorter one may be part of a word
        secrets.add(socket.gethostname())
    texts = {path: path.read_text() for path in lab.runs.rglob("*") if path.is_file()}
    assert len(texts) > 10
    for secret in secrets:
        assert not any(secret in failure for failure in outcome.failures), secret
        assert [path.name for path, text in texts.items() if secret in text or secret in path.name] == [], secret
