from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from diarbench.cards import DatasetCard, read_card
from diarbench.errors import AudioError, DiarbenchError, InputError, MissingRequirementError, RttmError
from diarbench.loaders import Dataset, data_roots, load_dataset
from diarbench.types import Turns

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\n'


def turn(recording: str, start: float = 0.5, duration: float = 1.0, speaker: str = "A") -> str:
    return f"SPEAKER {recording} 1 {start} {duration} <NA> <NA> {speaker} <NA> <NA>\n"


class Corpus:
    """A folder `corpus` with recordings a and b of two seconds, beside its card."""

    def __init__(self, folder: Path, write_audio) -> None:
        self.write_audio = write_audio
        self.root = folder / "corpus"
        for name in ("a", "b"):
            write_audio(self.root / "audio" / f"{name}.wav", seconds=2.0)
            self.write(f"reference/{name}.rttm", turn(name))

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, folder: str = "", head: str = "", uem: str = "whole-file") -> Dataset:
        path = self.root.parent / "mine.toml"
        path.write_text(HEAD + f'uem = "{uem}"\n' + head + '\n[folder]\nroot = "corpus"\n' + folder)
        return load_dataset("mine", path, read_card(path, DatasetCard))

    def refused(self, kind: type[DiarbenchError], **card: str) -> str:
        with pytest.raises(DiarbenchError) as error:
            self.load(**card)
        assert type(error.value) is kind
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def corpus(tmp_path, write_audio) -> Corpus:
    return Corpus(tmp_path, write_audio)


def ids(dataset: Dataset) -> list[str]:
    return [labelled.recording.id for labelled in dataset.recordings]


# --- what comes out


def test_a_plain_folder(corpus):
    dataset = corpus.load()
    assert ids(dataset) == ["a", "b"]
    first = dataset.recordings[0]
    assert first.recording.path == corpus.root / "audio" / "a.wav"
    assert (first.recording.duration, first.recording.sample_rate, first.recording.channel) == (2.0, 16000, None)
    assert list(first.reference) == [(0.5, 1.5, "A")]
    assert first.uem == ((0.0, 2.0),)
    assert dataset.duration == 4.0
    assert dataset.notes == ()
    assert dataset.facts["title"] == "A corpus"


def test_the_list_gives_the_order_and_leaves_out_the_rest(corpus):
    corpus.write("test.lst", "b\n")
    dataset = corpus.load('list = "test.lst"\n')
    assert ids(dataset) == ["b"]
    assert dataset.notes == ()
    corpus.write("test.lst", "b\na\n")
    assert ids(corpus.load('list = "test.lst"\n')) == ["b", "a"]


def test_references_in_one_file_and_audio_in_folders(corpus, write_audio):
    corpus.write("all.rttm", turn("b") + turn("a") + turn("b", speaker="B"))
    (corpus.root / "audio" / "deep" / "er").mkdir(parents=True)
    (corpus.root / "audio" / "a.wav").rename(corpus.root / "audio" / "deep" / "er" / "a.wav")
    dataset = corpus.load('reference = "all.rttm"\n')
    assert ids(dataset) == ["a", "b"]
    assert dataset.recordings[1].reference.labels == ("A", "B")


def test_scoring_regions(corpus):
    corpus.write("all.uem", "a 1 0.5 1\na 1 1.5 2\nb 1 0 1.25\n")
    assert [labelled.uem for labelled in corpus.load(uem="all.uem").recordings] == [
        ((0.5, 1.0), (1.5, 2.0)),
        ((0.0, 1.25),),
    ]
    corpus.write("uem/a.uem", "a 1 0 1\n")
    corpus.write("uem/b.uem", "b 1 0 2\n")
    assert [labelled.uem for labelled in corpus.load(uem="uem").recordings] == [((0.0, 1.0),), ((0.0, 2.0),)]


def test_an_empty_rttm_says_that_nobody_speaks(corpus):
    corpus.write("reference/b.rttm", "")
    dataset = corpus.load()
    assert ids(dataset) == ["a", "b"]
    assert dataset.recordings[1].reference == Turns.of([])


def test_channel_and_rate_of_the_card(corpus, write_audio):
    write_audio(corpus.root / "audio" / "a.wav", seconds=2.0, channels=2)
    dataset = corpus.load(head='channel = "mix"\nsample_rate = 8000')
    assert dataset.recordings[0].recording.channel == "mix"
    assert dataset.recordings[0].recording.sample_rate == 8000


def test_without_audio_the_region_gives_the_length(corpus):
    corpus.write("all.uem", "a 1 0.5 1\na 1 1.5 9\nb 1 0 1.25\n")
    dataset = corpus.load('audio = "none"\n', uem="all.uem")
    assert [(r.recording.path, r.recording.duration) for r in dataset.recordings] == [(None, 9.0), (None, 1.25)]
    said = corpus.refused(InputError, folder='audio = "none"\n')
    assert "without audio the length of 'a' is not known" in said


def test_a_region_may_end_a_hair_after_the_audio(corpus):
    corpus.write("all.uem", "a 1 0 2.09\nb 1 0 2\n")
    assert corpus.load(uem="all.uem").recordings[0].uem == ((0.0, 2.09),)


def test_hidden_files_and_other_files_are_no_recordings(corpus):
    for name in ("audio/._a.wav", "audio/notes.txt", "audio/a.wav.bak", "reference/._a.rttm", "reference/README"):
        corpus.write(name, "not what it seems")
    assert ids(corpus.load()) == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_loop_of_links_ends(corpus):
    (corpus.root / "audio" / "loop").symlink_to(corpus.root / "audio", target_is_directory=True)
    (corpus.root / "reference" / "loop").symlink_to(corpus.root, target_is_directory=True)
    assert ids(corpus.load()) == ["a", "b"]


def test_files_may_be_links(corpus):
    (corpus.root / "audio" / "a.wav").rename(corpus.root / "kept.wav")
    (corpus.root / "audio" / "a.wav").symlink_to(corpus.root / "kept.wav")
    assert ids(corpus.load()) == ["a", "b"]


MARK = "NOSCORE a 1 0.75 1 <NA> <NA> <NA> <NA> <NA>\n"


def test_what_references_mark_is_not_scored_and_said(corpus):
    before = corpus.load()
    corpus.write("reference/a.rttm", turn("a") + MARK)
    dataset = corpus.load()
    assert [labelled.uem for labelled in dataset.recordings] == [((0.0, 0.75), (1.75, 2.0)), ((0.0, 2.0),)]
    (note,) = dataset.notes
    assert note.endswith("a.rttm: marked as not to be scored, and left out of scoring: 1 s in 1 region of 1 recording")
    assert dataset.digest != before.digest
    corpus.write("some.lst", "b\n")
    assert corpus.load('list = "some.lst"\n').notes == ()  # a is not meant
    corpus.write("reference/a.rttm", turn("a") + MARK + MARK.replace("0.75 1", "0 3"))
    assert "all of the scoring region of 'a' is marked as not to be scored" in corpus.refused(InputError)


def test_a_name_in_two_channels_is_said(corpus):
    corpus.write("reference/a.rttm", turn("a") + turn("a").replace(" 1 0.5", " 2 0.75"))
    (note,) = corpus.load().notes
    assert "the recording 'a' has turns of A in more than one channel" in note


# --- what is passed over is said


def test_audio_without_a_reference_is_noted(corpus, write_audio):
    write_audio(corpus.root / "audio" / "c.wav")
    (note,) = corpus.load().notes
    assert "1 audio file has no reference and is left out (c)" in note


def test_a_region_without_a_reference_is_noted(corpus):
    corpus.write("all.uem", "a 1 0 1\nb 1 0 1\nc 1 0 1\n")
    (note,) = corpus.load(uem="all.uem").notes
    assert "1 scoring region has no reference and is left out (c)" in note


@pytest.mark.parametrize("uem", ["whole", "Whole_Files", "full"])
def test_whole_files_misspelt(corpus, uem):
    assert 'write uem = "whole-file"' in corpus.refused(InputError, uem=uem)


def test_regions_that_name_the_recordings_make_the_rest_unmeant(corpus, write_audio):
    write_audio(corpus.root / "audio" / "c.wav")
    corpus.write("all.uem", "a 1 0 1\nb 1 0 1\n")
    assert corpus.load(uem="all.uem").notes == ()


def test_a_reference_that_goes_on_after_the_audio_is_noted(corpus):
    corpus.write("reference/b.rttm", turn("b", 1.0, 1.09))
    assert corpus.load().notes == ()
    corpus.write("reference/b.rttm", turn("b", 1.0, 30.0))
    (note,) = corpus.load().notes
    assert "1 reference goes on after its audio ends, which is not scored (b)" in note


# --- what does not hold together is refused, with its file


def test_a_recording_in_the_list_but_not_in_the_references(corpus, write_audio):
    write_audio(corpus.root / "audio" / "c.wav")
    corpus.write("test.lst", "a\nc\n")
    said = corpus.refused(InputError, folder='list = "test.lst"\n')
    assert "test.lst: the recording 'c' is in the list, but not in the references" in said
    assert "add an empty c.rttm" in said


def test_a_recording_without_a_region(corpus):
    corpus.write("all.uem", "a 1 0 1\n")
    assert "all.uem: no scoring region for the recording 'b'" in corpus.refused(InputError, uem="all.uem")


def test_a_region_beyond_the_audio(corpus):
    corpus.write("all.uem", "a 1 0 1\nb 1 0 3.5\n")
    said = corpus.refused(RttmError, uem="all.uem")
    assert "all.uem: the scoring region of 'b' ends at 3.5 s, its audio at 2 s" in said


def test_a_recording_without_audio(corpus):
    corpus.write("reference/c.rttm", turn("c"))
    assert "no audio file for the recording 'c' (c.wav, .flac, .ogg, ...)" in corpus.refused(AudioError)


def test_two_audio_files_for_one_recording(corpus, write_audio):
    write_audio(corpus.root / "audio" / "sub" / "a.flac")
    said = corpus.refused(InputError)
    assert "a.flac: the recording id 'a' has another audio file: " in said
    assert "a.wav" in said


def test_one_recording_in_two_reference_files(corpus):
    corpus.write("reference/c.rttm", turn("a", 5))
    said = corpus.refused(InputError)
    assert "c.rttm: the recording id 'a' is also in " in said
    assert "a.rttm" in said


def test_one_recording_in_two_uem_files(corpus):
    corpus.write("uem/a.uem", "a 1 0 1\nb 1 0 1\n")
    corpus.write("uem/b.uem", "b 1 0 1\n")
    assert "b.uem: the recording id 'b' is in another UEM file too" in corpus.refused(InputError, uem="uem")


def test_an_empty_rttm_with_a_name_that_is_no_id(corpus):
    corpus.write("reference/b c.rttm", "")
    assert "the recording id 'b c' can't be used" in corpus.refused(RttmError)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("reference/b.rttm", turn("b", 0.5, -1), "b.rttm, line 1: the duration is negative"),
        ("reference/b.rttm", turn("../b"), "b.rttm, line 1: the recording id '../b' can't be used"),
        ("reference/b.rttm", turn("b") + "SPEAKER b 1 0 1\n", "b.rttm, line 2: 5 columns"),
    ],
)
def test_a_broken_reference_is_named_with_its_line(corpus, name, text, says):
    corpus.write(name, text)
    assert says in corpus.refused(RttmError)


def test_a_recording_twice_in_the_list(corpus):
    corpus.write("test.lst", "a\nb\na\n")
    said = corpus.refused(RttmError, folder='list = "test.lst"\n')
    assert "test.lst, line 3: the recording id 'a' is there twice" in said


def test_several_channels_without_a_rule(corpus, write_audio):
    write_audio(corpus.root / "audio" / "b.wav", channels=2)
    assert "b.wav: has 2 channels, and the dataset card names no channel rule" in corpus.refused(AudioError)
    assert "asks for channel 2" in corpus.refused(AudioError, head="channel = 2")


def test_truncated_audio(corpus):
    path = corpus.root / "audio" / "b.wav"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "b.wav: truncated" in corpus.refused(AudioError)


@pytest.mark.parametrize("missing", ["audio", "reference", "test.lst", "all.uem"])
def test_a_missing_part(corpus, missing):
    corpus.write("test.lst", "a\n")
    corpus.write("all.uem", "a 1 0 1\nb 1 0 1\n")
    (corpus.root / missing).rename(corpus.root / "gone")
    with pytest.raises(InputError, match=missing):
        corpus.load('list = "test.lst"\n', uem="all.uem")


def test_nothing_at_all(corpus):
    for path in (corpus.root / "reference").iterdir():
        path.unlink()
    assert corpus.refused(InputError) == "dataset mine: no recordings"


# --- audio by a pattern


PATTERN = 'audio = "meetings/{id}/{id}.Array1-01.*"\n'


@pytest.fixture
def meetings(corpus, write_audio) -> Corpus:
    """Audio that lies as AMI's does, with a stream that is not meant beside it."""
    for path in (corpus.root / "audio").iterdir():
        for stream in ("Array1-01", "Mix-Headset"):
            target = corpus.root / "meetings" / path.stem / f"{path.stem}.{stream}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        path.unlink()
    write_audio(corpus.root / "meetings" / "c" / "b.Array1-01.wav")  # one recording's file in another's folder
    return corpus


def test_audio_by_a_pattern(meetings):
    dataset = meetings.load(PATTERN)
    assert [labelled.recording.path for labelled in dataset.recordings] == [
        meetings.root / "meetings" / name / f"{name}.Array1-01.wav" for name in ("a", "b")
    ]
    assert dataset.notes == ()
    assert ids(meetings.load('audio = "*/*/{id}.Mix-Headset.wav"\n')) == ["a", "b"]


def test_a_pattern_takes_brackets_as_they_are(corpus):
    (corpus.root / "audio").rename(corpus.root / "[au]dio?")
    assert ids(corpus.load('audio = "[au]dio?/{id}.wav"\n')) == ["a", "b"]


def test_a_pattern_that_finds_nothing_or_too_much(meetings):
    said = meetings.refused(AudioError, folder='audio = "meetings/{id}.wav"\n')
    assert "corpus: no audio file is called meetings/{id}.wav" in said
    meetings.write("reference/d.rttm", turn("d"))
    said = meetings.refused(AudioError, folder=PATTERN)
    assert "no audio file for the recording 'd' (meetings/d/d.Array1-01.*)" in said
    said = meetings.refused(InputError, folder='audio = "meetings/*/{id}.*.wav"\n')
    assert "a.Mix-Headset.wav: the recording id 'a' has another audio file: " in said


@pytest.mark.parametrize("pattern", ["**/{id}.wav", "../{id}.wav", "/tmp/{id}.wav"])
def test_a_pattern_that_leaves_the_folder_or_walks_it(corpus, pattern):
    said = corpus.refused(InputError, folder=f'audio = "{pattern}"\n')
    assert f"audio = {pattern!r}: a pattern lies below the root" in said


def test_links_in_a_ring_and_names_in_a_pattern(meetings):
    loop = meetings.root / "meetings" / "b" / "b.Array1-01.wav"
    loop.unlink()
    loop.symlink_to(loop.name)
    assert "it is a link that leads nowhere, or to itself" in meetings.refused(AudioError, folder=PATTERN)
    (meetings.root / "ring").symlink_to(meetings.root, target_is_directory=True)
    assert ids(meetings.load('audio = "*/*/{id}/{id}.Mix-Headset.wav"\n')) == ["a", "b"]
    (meetings.root / "meetings" / "a").joinpath(os.fsdecode(b"\xff.Array1-01.wav")).touch()
    said = meetings.refused(InputError, folder='audio = "meetings/*/{id}.Array1-01.wav"\n')
    assert "is not UTF-8; rename it" in said


# --- which recordings are meant


def test_a_uem_file_may_be_the_list(corpus):
    corpus.write("part.uem", "b 1 0 1.5\nb 1 1.6 2\n")
    dataset = corpus.load('list = "part.uem"\n', uem="part.uem")
    assert [(one.recording.id, one.uem) for one in dataset.recordings] == [("b", ((0.0, 1.5), (1.6, 2.0)))]
    assert dataset.notes == ()
    corpus.write("part.uem", "b 1 0\n")
    assert "part.uem, line 1: 3 columns" in corpus.refused(RttmError, folder='list = "part.uem"\n')


def test_what_is_left_out_is_no_note_where_the_card_counts_on_the_rest(corpus, write_audio):
    write_audio(corpus.root / "audio" / "c.wav")
    assert "1 audio file has no reference" in corpus.load().notes[0]
    assert corpus.load(head="expect.recordings = 2").notes == ()
    assert "1 audio file has no reference" in corpus.load(head="expect.recordings = 3").notes[0]


# --- the digest: what scores depend on, and nothing else


def test_the_digest_changes_with_what_is_scored(corpus):
    corpus.write("all.uem", "a 1 0 2\nb 1 0 2\n")
    before = corpus.load(uem="all.uem").digest
    assert corpus.load(uem="all.uem").digest == before
    seen = {before}

    def changed(**card: str) -> None:
        digest = corpus.load(**card).digest
        assert digest not in seen
        seen.add(digest)

    changed(uem="all.uem", head="channel = 0")
    changed(uem="all.uem", head="sample_rate = 8000")
    corpus.write("test.lst", "b\na\n")
    assert corpus.load(uem="all.uem", folder='list = "test.lst"\n').digest == before
    corpus.write("test.lst", "b\n")
    changed(uem="all.uem", folder='list = "test.lst"\n')
    corpus.write("all.uem", "a 1 0 2\nb 1 0.001 2\n")
    changed(uem="all.uem")
    corpus.write("all.uem", "a 1 0 2\nb 1 0 2\n")
    corpus.write("reference/b.rttm", turn("b", 0.5001))
    changed(uem="all.uem")
    corpus.write("reference/b.rttm", turn("b", speaker="B"))
    changed(uem="all.uem")
    corpus.write("reference/b.rttm", "")
    changed(uem="all.uem")
    corpus.write("reference/b.rttm", turn("b"))
    assert corpus.load(uem="all.uem").digest == before


def test_the_digest_does_not_change_with_words_or_layout(corpus):
    before = corpus.load().digest
    corpus.write("reference/b.rttm", ";; corrected\r\n" + turn("b", 0.50, 1.000) + "\n")
    (corpus.root / "audio" / "a.wav").rename(corpus.root / "audio" / "moved.wav")
    (corpus.root / "audio" / "sub").mkdir()
    (corpus.root / "audio" / "moved.wav").rename(corpus.root / "audio" / "sub" / "a.wav")
    assert corpus.load(head='description = "another word"\nrules = ["full"]\n[expect]\nrecordings = 7').digest == before


# --- where data is looked for


def test_data_lies_beside_the_card_or_in_the_data_folders(corpus, tmp_path, monkeypatch):
    away = tmp_path / "away"
    away.mkdir()
    corpus.root.rename(away / "corpus")
    monkeypatch.setenv("DIARBENCH_DATA", os.pathsep.join([str(tmp_path / "nowhere"), str(away)]))
    assert ids(corpus.load()) == ["a", "b"]


def test_data_that_is_not_here_says_how_to_get_it(corpus, tmp_path, monkeypatch):
    corpus.root.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "nowhere"))
    said = corpus.refused(MissingRequirementError)
    assert said.startswith("dataset mine is not here: no folder 'corpus' beside its card or in ")
    assert said.endswith("to get it: ask Anna")
    assert "DIARBENCH_DATA" in said


def test_data_folders(monkeypatch):
    monkeypatch.setenv("DIARBENCH_DATA", os.pathsep.join(["/one", "", "~nobody-of-that-name/two"]))
    assert data_roots() == [Path("/one"), Path("~nobody-of-that-name/two")]
    monkeypatch.delenv("DIARBENCH_DATA")
    assert data_roots() == [Path("data"), Path("../shared/data")]


# --- from a wheel


def test_a_recording_inside_an_installed_distribution(tmp_path, write_audio, monkeypatch, own_cache):
    site = tmp_path / "site"
    info = site / "probe_corpus-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-corpus\nVersion: 1.0\n")
    write_audio(site / "probe" / "a.wav", seconds=2.0)
    (site / "probe" / "a.rttm").write_text(turn("a"))
    (site / "probe" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")

    def load(uem: str = "whole-file", audio: str | None = None) -> Dataset:
        digests = {
            name: hashlib.sha256((site / "probe" / name).read_bytes()).hexdigest() for name in ("a.wav", "a.rttm")
        }
        path = tmp_path / "inside.toml"
        path.write_text(
            f'{HEAD}uem = "{uem}"\n[wheel]\nwheel = "probe-corpus==1.0"\n'
            'audio = "probe/a.wav"\nreference = "probe/a.rttm"\n'
            f'audio_sha256 = "{audio or digests["a.wav"]}"\nreference_sha256 = "{digests["a.rttm"]}"\n'
        )
        return load_dataset("inside", path, read_card(path, DatasetCard))

    dataset = load()
    assert ids(dataset) == ["a"]
    assert dataset.recordings[0].uem == ((0.0, 2.0),)
    with pytest.raises(InputError, match='write uem = "whole-file"'):
        load("all.uem")
    with pytest.raises(MissingRequirementError, match=r"probe/a\.wav of probe-corpus==1\.0 is not on this machine"):
        load(audio="0" * 64)
    write_audio(site / "probe" / "a.wav", seconds=2.0, channels=2)
    with pytest.raises(AudioError, match="names no channel rule"):
        load()


# --- simulated


def test_conversations_are_made_once(tmp_path, write_audio, own_cache, monkeypatch):
    for speaker in ("anna", "bert"):
        for number in range(3):
            write_audio(tmp_path / "speech" / speaker / f"{number}.wav", seconds=4.0, seed=number)
    path = tmp_path / "made.toml"

    def load(uem: str = "whole-file", duration: float = 8.0, speech: str = "speech") -> Dataset:
        path.write_text(
            HEAD + f'uem = "{uem}"\nsynthetic = true\n[simulate]\nspeech = "{speech}"\nconversations = 2\n'
            f"duration = {duration}\nspeakers = [2, 2]\nseed = 1\n"
        )
        return load_dataset("made", path, read_card(path, DatasetCard))

    dataset = load()
    assert len(dataset.recordings) == 2
    assert all(labelled.uem == ((0.0, labelled.recording.duration),) for labelled in dataset.recordings)
    assert all(len(labelled.reference) for labelled in dataset.recordings)
    stamps = {p: p.stat().st_mtime_ns for p in own_cache.rglob("*.*")}
    assert load().digest == dataset.digest
    assert {p: p.stat().st_mtime_ns for p in own_cache.rglob("*.*")} == stamps
    assert load(duration=9.0).digest != dataset.digest
    with pytest.raises(InputError, match='write uem = "whole-file"'):
        load("all.uem")
    with pytest.raises(MissingRequirementError, match="no folder 'gone'"):
        load(speech="gone")


def test_the_real_excerpts(shared_data, monkeypatch):
    """The cards that come with diarbench hold on the data they are written for."""
    from diarbench.registry import Registry, shipped

    monkeypatch.setenv("DIARBENCH_DATA", str(shared_data))
    chosen = Registry((shipped(),)).choose_datasets(["ami-excerpts-*"])
    for name, (path, card) in chosen.items():
        assert len(load_dataset(name, path, card).recordings) == card.expect.recordings
