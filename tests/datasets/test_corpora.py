"""The cards of corpora: each reads the layout that it names, expects what the papers say, and has its section."""

from __future__ import annotations

import hashlib
import os
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_layouts.py

from small_layouts import IDS, REGION, SECONDS, lay_out, turns

from diarbench.audio import decode
from diarbench.cards import DatasetCard, Expect, read_card
from diarbench.errors import InputError, MissingRequirementError
from diarbench.loaders import Dataset, load_dataset
from diarbench.loaders.facts import mismatches
from diarbench.loaders.folder import read_references
from diarbench.registry import Registry, shipped

pytestmark = pytest.mark.usefixtures("own_cache")

REGISTRY = Registry((shipped(),))
CARDS = {name: read_card(path, DatasetCard) for name, path in REGISTRY.datasets.items()}
# Excerpts say of which corpus they are, and are none.
CORPORA = {
    name: card
    for name, card in CARDS.items()
    if card.corpus is not None and card.simulate is None and "excerpts" not in name
}
LAYOUT = {"folder", "kaldi", "lhotse", "huggingface"}


def load(name: str, card: DatasetCard) -> Dataset:
    return load_dataset(name, REGISTRY.datasets[name], card)


# --- what there is


def test_published_tables_name_datasets_that_are_registered():
    named = set()
    for path in REGISTRY.published.values():
        table = tomllib.loads(path.read_text())
        named |= {column["dataset"] for column in table["columns"] if "dataset" in column}
        named |= {row["dataset"] for row in table["rows"] if "dataset" in row}
    assert len(named) >= 11
    assert named <= set(CORPORA)
    assert all(CORPORA[name].part in ("test", None) for name in named)  # the papers' figures are on test parts


def test_the_corpora_of_the_papers_are_there():
    assert len(CORPORA) >= 36
    assert {card.corpus for card in CORPORA.values()} == {
        "aishell-4", "alimeeting", "ami", "ava-avd", "callhome", "chime-6", "dihard-3", "dipco", "earnings-21", "icsi",
        "msdwild", "notsofar-1", "ramc", "simsamu", "voxconverse",
    }  # fmt: skip
    for name in ("ami-array", "aishell-4", "alimeeting-far", "notsofar-1", "msdwild", "ramc"):
        assert CARDS[f"{name}-train"].part == "train"


@pytest.mark.parametrize("name", CORPORA)
def test_a_card_says_how_to_get_its_corpus(name):
    card = CORPORA[name]
    assert card.source is not None
    assert card.rules
    assert set(card.rules) <= {"full", "fair", "forgiving"}
    assert card.steps is not None or card.huggingface is not None  # a dataset of the hub is fetched when it is used
    assert card.uem is not None
    assert len([layout for layout in LAYOUT if getattr(card, layout) is not None]) == 1


def test_the_page_on_datasets_has_each_card_as_it_is():
    """The table of docs/datasets.md: recordings, hours, speakers in each, rules."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()
    rows = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = cells
    assert rows.keys() == CORPORA.keys()
    for name, (recordings, hours, each, rules, _) in rows.items():
        expect = CORPORA[name].expect
        assert recordings == ("" if expect.recordings is None else f"{expect.recordings:,}"), name
        assert (float(hours) if hours else None) == expect.hours, name
        fewest, most = expect.speakers_each or ("", "")
        assert each == (f"{fewest}–{most}" if fewest != most else f"{fewest}"), name
        assert rules == ", ".join(CORPORA[name].rules), name


@pytest.mark.parametrize("name", [name for name, card in CORPORA.items() if card.download.files])
def test_what_is_downloaded_is_what_the_card_reads(name):
    card = CORPORA[name]
    assert card.folder is not None
    read = (card.folder.audio, card.folder.reference, card.uem)
    for file in card.download.files:
        if not file.unpack:
            assert file.to is not None
            assert file.to in read or file.to.rsplit("/", 1)[0] in read
        if file.ids:
            assert len(set(file.ids)) == card.expect.recordings
            digest = hashlib.sha256("".join(f"{one}\n" for one in sorted(file.ids)).encode()).hexdigest()
            assert card.expect.list_sha256 in (digest, None)


# --- each card reads the layout that it names


@pytest.fixture
def programs(tmp_path, monkeypatch) -> None:
    """Programs called sox and sph2pipe, which write the file that is their second argument."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sox", "sph2pipe"):
        (folder / name).write_text('#!/bin/sh\nexec cat "$2"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.usefixtures("programs")
def test_a_card_reads_its_layout(name, tmp_path, monkeypatch):
    card = CORPORA[name]
    if card.huggingface is not None:
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    root = lay_out(card, tmp_path / "data")
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("diarbench.loaders.huggingface.fetch_dataset", lambda dataset: root)
    small = card.model_copy(update={"expect": Expect(recordings=2, sample_rate=card.expect.sample_rate)})
    dataset = load(name, small)
    assert dataset.notes == ()
    assert len(dataset.recordings) == 2
    whole = card.uem == "whole-file"
    for labelled, recording in zip(dataset.recordings, IDS, strict=True):
        if card.huggingface is None:
            assert labelled.recording.id == recording
        assert list(labelled.reference) == [(start, start + long, who) for start, long, who in turns(recording)]
        assert labelled.uem == (((0.0, SECONDS),) if whole else (REGION,))
        assert labelled.recording.duration == SECONDS
        level = {"first": 0.25, "mix": 0.375, None: 0.25}[card.channel]  # of two channels at 0.25 and 0.5
        assert decode(labelled.recording).samples[:, 8000:24000] == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.usefixtures("programs")
def test_a_small_corpus_is_not_taken_for_the_real_one(name, tmp_path, monkeypatch):
    card = CORPORA[name]
    if card.expect == Expect(sample_rate=card.expect.sample_rate):
        pytest.skip("no figures of it are public that this card could be sure of")
    if card.huggingface is not None:
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    root = lay_out(card, tmp_path / "data")
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("diarbench.loaders.huggingface.fetch_dataset", lambda dataset: root)
    if card.expect.reference_sha256 is not None:
        with pytest.raises(InputError, match=rf"2 recordings, the card expects {card.expect.recordings};"):
            load(name, card)
        return
    said = mismatches(load(name, card).recordings, card.expect)
    assert said
    assert card.expect.recordings in (2, None) or f"2 recordings, the card expects {card.expect.recordings}" in said


def test_ami_is_the_same_dataset_by_the_database_file_of_its_setup(tmp_path, monkeypatch):
    pytest.importorskip("pyannote.database", reason="protocols need pyannote.database")
    card = CORPORA["ami-array"].model_copy(update={"expect": Expect()})
    root = lay_out(card, tmp_path / "data")
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
    (root / "lists").mkdir()
    (root / "lists" / "test.meetings.txt").write_text("".join(f"{name}\n" for name in IDS))
    (root / "pyannote" / "database.yml").write_text(
        "Databases:\n  AMI-SDM: amicorpus/{uri}/audio/{uri}.Array1-01.wav\n"
        "Protocols:\n  AMI-SDM:\n    SpeakerDiarization:\n      only_words:\n        test:\n"
        "            uri: ../lists/test.meetings.txt\n"
        "            annotation: ../only_words/rttms/test/{uri}.rttm\n"
        "            annotated: ../uems/test/{uri}.uem\n"
    )
    page = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()
    theirs = DatasetCard.model_validate(tomllib.loads(page.split("# datasets/ami-array.toml\n")[1].split("```")[0]))
    assert theirs.expect.reference_sha256 == CORPORA["ami-array"].expect.reference_sha256
    other = load("ami-array", theirs.model_copy(update={"expect": Expect()}))
    ours = load("ami-array", card)
    assert other.digest == ours.digest
    assert [one.recording.path.resolve() for one in other.recordings] == [
        one.recording.path.resolve() for one in ours.recordings if one.recording.path is not None
    ]


def test_a_corpus_that_is_not_here_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path))
    for name, card in CORPORA.items():
        if card.huggingface is None:
            with pytest.raises(MissingRequirementError, match=f"dataset {name} is not here") as error:
                load(name, card)
            assert card.get in str(error.value)
            assert "\n" not in str(error.value)


# --- the papers' figures


PARTS = {
    "AMI": ("ami-array", "ami-array-train", "ami-array-development"),
    "AISHELL-4": ("aishell-4", "aishell-4-train", "aishell-4-development"),
    "AliMeeting": ("alimeeting-far", "alimeeting-far-train", "alimeeting-far-development"),
    "NOTSOFAR-1": ("notsofar-1", "notsofar-1-train", "notsofar-1-development"),
    "MSDWild": ("msdwild", "msdwild-train", "msdwild-many"),
    "DIHARD3": ("dihard-3", None, None),  # train and development are drawn from one part, which is not published
    "RAMC": ("ramc", "ramc-train", "ramc-development"),
    "VoxConverse": ("voxconverse", None, None),  # likewise
    "CHiME-6": ("chime-6", None, "chime-6-development"),  # not trained on
}

# Where the card has a figure that is closer than the table's, or the table's can't be: docs/datasets.md says why.
OTHERWISE = {
    ("aishell-4-development", "hours"): (9.9, 10.3),
    ("aishell-4-development", "minutes"): (33.8, None),
    ("chime-6-development", "hours"): (4.5, 4.45),
}


def test_cards_expect_what_table_1_says(shared_data):
    text = shared_data.parent / "seeds" / "pruning-paper.txt"
    if not text.is_file():
        pytest.skip("no folder seeds with the papers' texts beside the folder of real data")
    compared = 0
    for line in text.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] not in PARTS or len(cells) != 14:
            continue
        test, train, development = PARTS[cells[0]]
        for name, place in ((train, 1), (development, 5), (test, 9)):
            if name is None:
                continue
            recordings, speakers, hours, minutes = cells[place : place + 4]
            expect = CARDS[name].expect
            fewest, most = (int(count) for count in (speakers.split("-") * 2)[:2])
            assert (expect.recordings, expect.speakers_each) == (int(recordings), (fewest, most)), name
            for key, figure in (("hours", float(hours)), ("minutes", float(minutes))):
                theirs, ours = OTHERWISE.get((name, key), (figure, figure))
                assert (theirs, ours) == (figure, getattr(expect, key)), (name, key)
                compared += 1
    assert compared == 2 * (9 * 3 - 5)


def test_parts_that_the_paper_divided_add_up():
    """What it drew at random from one part: 204 + 50 and 174 + 42 recordings, 27.4 + 6.7 and 16.5 + 3.8 hours."""
    dihard, voxconverse = CARDS["dihard-3-development"].expect, CARDS["voxconverse-development"].expect
    assert (dihard.recordings, dihard.hours, dihard.speakers_each) == (204 + 50, 34.1, (1, 10))
    assert (voxconverse.recordings, voxconverse.hours, voxconverse.speakers_each) == (174 + 42, 20.3, (1, 20))
    assert dihard.hours == pytest.approx(27.4 + 6.7)
    assert voxconverse.hours == pytest.approx(16.5 + 3.8)


# --- the real references


@pytest.fixture
def real(shared_data, tmp_path, monkeypatch):
    """Load a card on the published references, laid out as it says, without audio; regions for want of lengths."""
    places = {"ami-array": "ami-array", "ami-headset": "ami-headset", "aishell-4": "aishell4"}

    def load_real(name: str, change: dict[str, str] | None = None) -> Dataset:
        card = CORPORA[name]
        published = shared_data / "published" / places.get(name, name)
        assert card.folder is not None
        root = tmp_path / "data" / card.folder.root
        for path in sorted((published / "reference").glob("*.rttm")):
            target = root / card.folder.reference / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text()
            for old, new in (change or {}).items():
                text = text.replace(old, new)
            target.write_text(text)
        uem = root / (card.uem if card.uem != "whole-file" else "all.uem")
        if (published / "uem").is_dir():
            for path in (published / "uem").glob("*.uem"):
                target = uem / path.name if card.uem != "whole-file" else uem
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(path.read_text())
        else:  # as long as its turns
            references = read_references(published / "reference")
            uem.write_text("".join(f"{key} 1 0 {turns.ends.max():.3f}\n" for key, turns in references.items()))
        monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
        silent = {"folder": card.folder.model_copy(update={"audio": "none"})}
        if card.uem == "whole-file":
            silent["uem"] = "all.uem"
        return load(name, card.model_copy(update=silent))

    return load_real


@pytest.mark.parametrize("name", ["ami-array", "ami-headset", "aishell-4", "voxconverse"])
def test_the_real_references_are_what_the_card_expects(name, real):
    dataset = real(name)
    assert mismatches(dataset.recordings, dataset.card.expect) == []
    expect = dataset.card.expect
    assert len(dataset.recordings) == {"ami-array": 16, "ami-headset": 16, "aishell-4": 20, "voxconverse": 232}[name]
    assert dataset.duration / 3600 == pytest.approx(expect.hours, rel=0.01)
    each = [len(labelled.reference.labels) for labelled in dataset.recordings]
    assert (min(each), max(each)) == expect.speakers_each
    assert dataset.duration / 60 / len(dataset.recordings) == pytest.approx(expect.minutes, rel=0.01)


def test_another_version_of_the_references_is_refused(real):
    """A line of VoxConverse 0.2: as many seconds of speech under another speaker's name, which only a digest tells."""
    line = "SPEAKER aiqwk 1 29.40000 19.73000 <NA> <NA> "
    with pytest.raises(InputError, match=r"dataset voxconverse: references of the SHA-256 .*another version") as error:
        real("voxconverse", {f"{line}spk02": f"{line}spk01"})
    assert "s of speech" not in str(error.value)
    assert "the card expects a76e66ef7e8d" in str(error.value)
