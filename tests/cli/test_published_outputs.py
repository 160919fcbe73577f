"""Outputs that their authors published and scored, as a leaderboard: the cards that ship, one run, one report."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diarbench.loaders.folder import read_references

# By dataset: the folder of the shared data, and how a clone of DiaPer calls it.
CORPORA = {
    "ami-array": ("ami-array", "AMImixarray"),
    "ami-headset": ("ami-headset", "AMImixheadset"),
    "aishell-4": ("aishell4", "AISHELL4mix"),
    "voxconverse": ("voxconverse", "VoxConverse"),
}
BOARD = ("ami-array", "ami-headset", "aishell-4")
CLONED = {
    "diaper-10att-ft": "DiaPer/10attractors/{}/withFT/test/rttms",
    "diaper-20att-ft": "DiaPer/20attractors/{}/withFT/test/rttms",
    "vbx-osd": "baseline_VBx/16kHz/{}/test/rttms",
}
HALF_A_DIGIT = 0.005 + 1e-6


@dataclass(frozen=True)
class Lab:
    """A working folder with clones of DiaPer and of AMI's references, as far as they are here, and no audio.

    AMI's cards are those that ship. Without audio nobody knows how long whole files are, which the cards of AISHELL-4
    and VoxConverse score: these are cards of the working folder, with UEMs.
    """

    path: Path
    published: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `diarbench ARGUMENTS` there, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "diarbench", *arguments],
            cwd=self.path,
            env={**os.environ, "DIARBENCH_DATA": str(self.path / "data"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def board(self, *arguments: str) -> dict[str, Any]:
        """What `diarbench report ARGUMENTS` writes as JSON, with the systems by name."""
        answer = self("report", *arguments, "--format", "json")
        assert answer.returncode == 0, answer.stderr
        found = json.loads(answer.stdout)
        return {**found, "systems": {line["system"]: line for line in found["systems"]}}

    def theirs(self, dataset: str, system: str) -> dict[str, dict[str, float]]:
        """The authors' figures, by recording; "OVERALL" is the whole set."""
        with (self.published / CORPORA[dataset][0] / "hypotheses" / f"{system}.scores.csv").open() as file:
            return {
                row.pop("recording"): {key: float(text) for key, text in row.items()} for row in csv.DictReader(file)
            }


@pytest.fixture(scope="module")
def lab(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    path = tmp_path_factory.mktemp("published-outputs")
    published = shared_data.resolve() / "published"
    for dataset, (folder, cloned) in CORPORA.items():
        for system, place in CLONED.items():
            if (published / folder / "hypotheses" / system).is_dir():
                link = path / "data" / "DiaPer" / "results" / place.format(cloned)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(published / folder / "hypotheses" / system)
        if dataset.startswith("ami-"):
            continue
        uem = published / folder / "uem"
        if not uem.is_dir():  # its authors scored it up to where the last turn of both sides ends
            uem = path / f"{dataset}.uem"
            ends: dict[str, float] = {}
            for side in ("reference", "hypotheses"):
                for name, turns in read_references(published / folder / side).items():
                    ends[name] = max(ends.get(name, 0.0), float(turns.ends.max()))
            uem.write_text("".join(f"{name} 1 0 {end:.6f}\n" for name, end in ends.items()))
        card = path / "datasets" / f"{dataset}.toml"
        card.parent.mkdir(exist_ok=True)
        card.write_text(
            f'title = "{dataset}"\nlicence = "CC BY 4.0"\nget = "it is here"\nuem = "{uem}"\n'
            f'[folder]\nroot = "{published / folder}"\naudio = "none"\n'
        )
    setup = path / "data" / "AMI-diarization-setup"
    for inside, folder in {"only_words/rttms/test": "reference", "uems/test": "uem"}.items():
        (setup / inside).parent.mkdir(parents=True)
        (setup / inside).symlink_to(published / "ami-array" / folder)
    return Lab(path, published)


@pytest.fixture(scope="module")
def ran(lab: Lab) -> subprocess.CompletedProcess[str]:
    return lab("run", "published-outputs")


def test_one_run_does_all_without_audio(lab: Lab, ran: subprocess.CompletedProcess[str]):
    assert ran.returncode == 0, ran.stderr
    for dataset in ("ami-array", "ami-headset"):
        assert f"{dataset}: without its audio, which stored outputs don't need" in ran.stderr
    assert "156 recordings run, 0 already there" in ran.stdout
    assert "Failures and problems" not in ran.stdout


def test_one_report_has_the_authors_figures(lab: Lab, ran: subprocess.CompletedProcess[str]):
    board = lab.board("published-outputs")
    assert [column["name"] for column in board["datasets"]] == list(BOARD)
    assert [(line["rank"], line["system"]) for line in board["systems"].values()] == [
        (1, "vbx-osd"),
        (2, "diaper-20att-ft"),
        (3, "diaper-10att-ft"),
    ]
    compared = 0
    for system, line in board["systems"].items():
        assert line["problems"] == []
        for dataset in BOARD:
            scores = line["scores"][dataset]["rules"]["full"]
            theirs = lab.theirs(dataset, system)
            assert scores["recordings"].keys() == theirs.keys() - {"OVERALL"}
            compared += close(scores["overall"], theirs["OVERALL"], HALF_A_DIGIT)
            for name, found in scores["recordings"].items():
                compared += close(found, theirs[name], 0.01)
        ders = [lab.theirs(dataset, system)["OVERALL"]["der_pct"] for dataset in BOARD]
        assert 100 * line["macro_der"]["full"] == pytest.approx(sum(ders) / 3, abs=HALF_A_DIGIT)
    assert compared == 3 * (16 + 16 + 20 + 3)


def close(ours: dict[str, float], theirs: dict[str, float], by: float) -> int:
    """1 if all figures of theirs that a board has are ours, percentages to `by`."""
    percent = [100 * ours["der"], *(100 * ours[key] / ours["scored"] for key in ("missed", "false_alarm", "confusion"))]
    printed = [theirs[key] for key in ("der_pct", "missed_pct", "false_alarm_pct", "confusion_pct")]
    assert percent == pytest.approx(printed, abs=by)
    assert ours["scored"] == pytest.approx(theirs["scored_seconds"], abs=0.2)
    return 1


def test_reported_stands_against_measured(lab: Lab, ran: subprocess.CompletedProcess[str]):
    found = [one for one in lab.board("published-outputs")["reported"] if one["measured"]]
    assert len(found) == 9
    assert {one["table"] for one in found} == {"diaper-outputs"}
    assert all(one["measured"][0]["rounds_to_it"] for one in found)
    assert lab("report", "diaper-outputs", "--format", "md").stdout.count("(rounds to it)") == 9


def test_a_system_that_lacks_a_dataset_has_no_macro_error(lab: Lab, ran: subprocess.CompletedProcess[str]):
    more = lab("run", "-s", "diaper-*att-ft", "-s", "vbx-osd", "-d", "voxconverse")
    assert more.returncode == 1
    for number in (10, 20):
        assert (
            f"failed: diaper-{number}att-ft: no outputs of voxconverse: its card's [files] lacks voxconverse = "
            '"a folder of RTTM, or one RTTM file"\n'
        ) in more.stderr
    four = lab.board(*(word for name in CORPORA for word in ("-d", name)))
    vbx = four["systems"]["vbx-osd"]
    found = vbx["scores"]["voxconverse"]["rules"]["fair"]["overall"]
    assert close(found, lab.theirs("voxconverse", "vbx-osd")["OVERALL"], HALF_A_DIGIT)
    ders = [vbx["scores"][name]["rules"]["fair"]["overall"]["der"] for name in CORPORA]
    assert (vbx["rank"], vbx["macro_der"]["fair"]) == (1, pytest.approx(sum(ders) / 4))
    for number in (10, 20):
        line = four["systems"][f"diaper-{number}att-ft"]
        assert (line["rank"], set(line["macro_der"].values())) == (None, {None})
        assert "voxconverse" in line["unranked"]
        assert line["scores"]["aishell-4"]["rules"]["full"]["overall"]["der"] > 0
    # The board that names three datasets is as it was.
    assert [line["rank"] for line in lab.board("published-outputs")["systems"].values()] == [1, 2, 3]


def test_whole_files_need_their_audio(lab: Lab):
    (lab.path / "audioless" / "datasets").mkdir(parents=True)
    card = lab.path / "audioless" / "datasets" / "aishell-4.toml"
    card.write_text((lab.path / "datasets" / "aishell-4.toml").read_text().replace('audio = "none"', ""))
    text = card.read_text()
    card.write_text(text.replace(next(line for line in text.splitlines() if "uem" in line), 'uem = "whole-file"'))
    answer = lab("run", "-s", "vbx-osd", "-d", "aishell-4", "--runs", "other", "--cards", "audioless")
    assert answer.returncode == 2
    assert "no such folder of audio files" in answer.stderr
    assert "name a UEM file" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_outputs_that_are_not_here_are_told(lab: Lab):
    answer = lab("run", "-s", "diaper-10att", "-d", "aishell-4", "--runs", "other")
    assert answer.returncode == 1
    assert "its file 'aishell-4' is not there: " in answer.stderr
    assert ", nor in data (DIARBENCH_DATA)" in answer.stderr
