"""What holds for all layouts: one corpus is one dataset, a mistake is one line, part of a corpus is the same part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # corpora.py

from corpora import HEAD, LAYOUTS, Corpus, load, needs, small_corpus, write, write_hours

from diarbench.cards import DatasetCard, read_card
from diarbench.errors import CardError, InputError, MissingRequirementError, RttmError
from diarbench.files import sha256_of
from diarbench.loaders import Dataset, load_dataset
from diarbench.loaders.corpus import ids_by_digest
from diarbench.loaders.facts import facts_of, mismatches, reference_sha256
from diarbench.loaders.folder import read_references
from diarbench.rttm import format_rttm, format_uem

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    needs(request.param)
    return request.param


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return small_corpus(tmp_path / "made")


def ids(dataset: Dataset) -> list[str]:
    return [labelled.recording.id for labelled in dataset.recordings]


def refused(layout: str, corpus: Corpus, root: Path, more: str = "", uem: str | None = None) -> str:
    with pytest.raises((InputError, MissingRequirementError)) as error:
        load(layout, corpus, root, more, uem)
    said = str(error.value)
    assert "\n" not in said
    assert "\udcff" not in said  # can't be printed
    return said


# --- one corpus, six layouts


def contents(dataset: Dataset) -> dict[str, object]:
    """What has to be the same to the byte."""
    rows = {labelled.recording.id: labelled for labelled in dataset.recordings}
    return {
        "references": "".join(format_rttm(name, rows[name].reference, digits=9) for name in sorted(rows)),
        "uem": format_uem({name: rows[name].uem for name in sorted(rows)}, digits=9),
        "audio": {name: sha256_of(rows[name].recording.path) for name in rows},
        "lengths": {name: rows[name].recording.duration for name in rows},
        "digest": dataset.digest,
        "reference_sha256": reference_sha256(dataset.recordings),
    }


def test_one_corpus_is_the_same_in_every_layout(layout, corpus, tmp_path):
    dataset, plain = load(layout, corpus, tmp_path), load("files", corpus, tmp_path)
    assert contents(dataset) == contents(plain)
    assert [one.reference for one in sorted(dataset.recordings, key=lambda one: one.recording.id)] == [
        one.reference for one in sorted(plain.recordings, key=lambda one: one.recording.id)
    ]
    assert list(plain.recordings[0].reference)[:2] == [(0.7, 0.8, "A"), (0.8, 2.05, "A")]  # they touch
    assert plain.recordings[1].reference.labels == ("C", "Zoë")
    assert plain.recordings[1].uem == ((0.1, 1.7), (2.0, 3.999))
    assert dataset.notes == ()


def test_whole_files_in_every_layout(layout, corpus, tmp_path):
    dataset = load(layout, corpus, tmp_path, uem="whole-file")
    assert {r.recording.id: r.uem for r in dataset.recordings} == {
        "alpha": ((0.0, 4.0),), "beta": ((0.0, 4.321),), "Gamma": ((0.0, 4.0),),
    }  # fmt: skip


def test_a_recording_in_which_nobody_speaks_has_to_be_named(layout, corpus, tmp_path):
    corpus.add("quiet", [], [("0", "4")])
    stated = layout in ("files", "huggingface")  # an empty file, an empty list
    if not stated:
        assert "nobody speaks" in refused(layout, corpus, tmp_path)
    dataset = load(layout, corpus, tmp_path, more='silent = ["quiet"]')
    assert [len(r.reference) for r in dataset.recordings if r.recording.id == "quiet"] == [0]
    assert contents(dataset) == contents(load("files", corpus, tmp_path))
    assert "no recording 'quite', which the card names" in refused(layout, corpus, tmp_path, 'silent = ["quite"]')
    assert "'alpha' has turns" in refused(layout, corpus, tmp_path, 'silent = ["alpha"]')


# --- a lab's mistakes


def test_audio_that_is_missing(layout, corpus, tmp_path):
    del corpus.audio["beta"]
    said = refused(layout, corpus, tmp_path)
    assert "beta" in said or (layout == "huggingface" and "row 2: holds no audio" in said)


def test_a_recording_that_only_the_list_has(layout, corpus, tmp_path):
    corpus.listed.append("delta")
    said = refused(layout, corpus, tmp_path)
    assert "the recording 'delta' is in the list, but not in the references" in said
    assert {"files": "test.lst", "kaldi": "wav.scp", "pyannote": "database.yml"}.get(layout, "") in said


def test_a_recording_that_only_the_references_have(layout, corpus, tmp_path):
    corpus.turns["delta"] = [("0", "1", "A")]
    if layout in ("kaldi", "lhotse"):  # the others have a part list
        said = refused(layout, corpus, tmp_path)
        assert "the recording 'delta' has a reference, but is not in" in said
    else:
        assert "delta" not in ids(load(layout, corpus, tmp_path))


def test_a_recording_without_a_region(layout, corpus, tmp_path):
    corpus.regions["beta"] = []
    assert "no scoring region" in refused(layout, corpus, tmp_path)


def test_a_region_beyond_the_audio(layout, corpus, tmp_path):
    corpus.regions["Gamma"] = [("0", "4.2")]
    said = refused(layout, corpus, tmp_path)
    assert "the scoring region of 'Gamma' ends at 4.2 s, its audio at 4 s" in said


def test_eight_kilohertz_where_sixteen_are_promised(layout, corpus, tmp_path):
    corpus.add("phone", [("0", "1", "A")], [("0", "4")], rate=8000)
    dataset = load(layout, corpus, tmp_path)
    (note,) = dataset.notes
    assert "1 recording has fewer samples per second than the 16000 Hz" in note
    assert "(phone: 8000 Hz)" in note
    said = refused(layout, corpus, tmp_path, "expect.sample_rate = 16000")
    assert "8000 Hz, where the card expects files of 16000 Hz; is it another version?" in said


def test_references_of_another_version(layout, corpus, tmp_path):
    wanted = reference_sha256(load("files", corpus, tmp_path).recordings)
    more = f'expect.reference_sha256 = "{wanted}"\nexpect.speech = 4.783333'
    load(layout, corpus, tmp_path, more)
    corpus.turns["beta"] = [("0.25", "1.5", "Zoë"), ("0.25", "1", "C")]
    said = refused(layout, corpus, tmp_path, more)
    assert "5.3 s of speech, the card expects 4.8: another version of the references" in said
    assert f"the card expects {wanted[:12]}...: another version" in said


def test_a_link_that_leads_to_itself(layout, corpus, tmp_path):
    loop = tmp_path / "made" / "beta.wav"
    loop.unlink()
    loop.symlink_to(loop.name)
    said = refused(layout, corpus, tmp_path)
    says = {"huggingface": "row 2: holds no audio", "pyannote": 'Could not find file "beta"'}
    assert says.get(layout, "beta.wav: no such audio file; it is a link that leads nowhere, or to itself") in said


def test_folders_of_links_in_a_ring(layout, corpus, tmp_path):
    write(layout, corpus, tmp_path)
    (tmp_path / layout / "ring").symlink_to(tmp_path / layout, target_is_directory=True)
    for folder in ("audio", "wav", "data"):
        if (tmp_path / layout / folder).is_dir():
            (tmp_path / layout / folder / "ring").symlink_to(tmp_path / layout, target_is_directory=True)
    assert len(load(layout, corpus, tmp_path).recordings) == 3


def test_a_name_that_is_not_utf_8(layout, corpus, tmp_path):
    corpus.raw_name = b"al\xff"
    said = refused(layout, corpus, tmp_path)
    assert "UTF-8" in said or "utf-8" in said


def test_an_id_that_is_there_twice(layout, corpus, tmp_path):
    corpus.listed.append("beta")
    assert "the recording id 'beta' is there twice" in refused(layout, corpus, tmp_path)


def test_an_id_that_is_no_name_of_a_file(layout, corpus, tmp_path):
    corpus.listed[0] = "../alpha" if layout != "huggingface" else ".alpha"
    corpus.turns[corpus.listed[0]] = corpus.turns.pop("alpha")
    corpus.regions[corpus.listed[0]] = corpus.regions.pop("alpha")
    if layout == "files":
        (tmp_path / "files" / "reference").mkdir(parents=True)
    assert "can't be used" in refused(layout, corpus, tmp_path)


def test_no_layout_finds_regions_that_it_does_not_have(layout, corpus, tmp_path):
    if layout in ("pyannote", "huggingface"):
        pytest.skip("this layout has regions")
    assert 'uem = "layout" is for protocols' in refused(layout, corpus, tmp_path, uem="layout")


# --- parts of a corpus


def big_corpus(folder: Path) -> Corpus:
    corpus = Corpus(folder)
    for number in range(12):
        corpus.add(f"r{number:02d}", [("0", "0.5", "A")], [("0", "1")], seconds=1.0 + (number % 3) / 2)
    return corpus


def test_the_first_recordings(layout, tmp_path):
    corpus = big_corpus(tmp_path / "made")
    assert ids(load(layout, corpus, tmp_path, "select.recordings = 3")) == ["r00", "r01", "r02"]
    assert len(load(layout, corpus, tmp_path, "select.recordings = 300").recordings) == 12


def test_so_many_hours(layout, tmp_path):
    corpus = big_corpus(tmp_path / "made")
    dataset = load(layout, corpus, tmp_path, "select.hours = 0.00126")  # 4.536 s: 1 + 1.5 + 2, not 1 more
    assert ids(dataset) == ["r00", "r01", "r02"]
    assert dataset.duration == 4.5
    said = refused(layout, corpus, tmp_path, "select.hours = 0.0001")
    assert "[select] hours = 0.0001 is less than the recording 'r00' takes" in said
    both = load(layout, corpus, tmp_path, "select.hours = 0.00126\nselect.recordings = 2")
    assert ids(both) == ["r00", "r01"]


def test_a_pseudo_random_part_is_the_same_everywhere(layout, tmp_path):
    corpus = big_corpus(tmp_path / "made")
    dataset = load(layout, corpus, tmp_path, "select.recordings = 4\nselect.random = true")
    assert ids(dataset) == ["r01", "r03", "r04", "r10"]  # by `printf r04 | sha256sum` and so on
    assert dataset.digest == load("files", corpus, tmp_path, "select.recordings = 4\nselect.random = true").digest


def test_a_smaller_random_part_is_within_a_larger():
    names = [f"r{number}" for number in range(100)]
    order = ids_by_digest(names)
    assert sorted(order) == sorted(names)
    assert order != names
    assert ids_by_digest(reversed(names)) == order
    assert [name for name in order if name in names[:50]] == ids_by_digest(names[:50])


def test_a_part_list(layout, tmp_path):
    corpus = big_corpus(tmp_path / "made")
    path = write(layout, corpus, tmp_path)
    (tmp_path / layout / "part.lst").write_text("r03\nr01\n")
    text = path.read_text()
    path.write_text(text.replace('list = "test.lst"', "") + 'list = "part.lst"\n')
    assert ids(load_dataset(layout, path, read_card(path, DatasetCard))) == ["r03", "r01"]
    (tmp_path / layout / "part.lst").write_text("r03\nr99\n")
    with pytest.raises(InputError, match=r"part\.lst: the recording 'r99' is in the list, but not in the references"):
        load_dataset(layout, path, read_card(path, DatasetCard))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("select.recordings = 0", "greater than 0"),
        ("select.hours = -1.0", "greater than 0"),
        ("select.hour = 1.0", "unknown key 'select.hour'; did you mean hours?"),
    ],
)
def test_parts_that_can_not_be(corpus, tmp_path, text, says):
    with pytest.raises(CardError, match=says.replace("?", r"\?")):
        load("files", corpus, tmp_path, text)


def test_progress(layout, corpus, tmp_path):
    path = write(layout, corpus, tmp_path)
    told = []
    load_dataset(layout, path, read_card(path, DatasetCard), lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- facts


def test_facts_and_where_they_are_not_as_expected(corpus, tmp_path):
    dataset = load("files", corpus, tmp_path)
    facts = facts_of(dataset.recordings)
    assert (facts.recordings, facts.speakers) == (3, 4)
    assert facts.speech == pytest.approx(0.1 + 1.25 + 0.333333 + 0.6 + 1 + 1 + 0.5)
    assert facts.hours == pytest.approx(12.321 / 3600)
    expect = dataset.card.expect
    assert mismatches(dataset.recordings, expect) == []
    wrong = expect.model_copy(update={"recordings": 4, "hours": 1.0, "speakers": 2, "speech": 9.0})
    assert mismatches(dataset.recordings, wrong) == [
        "3 recordings, the card expects 4",
        "4 speakers, the card expects 2",
        "0.0034225 hours, the card expects 1",
        "4.8 s of speech, the card expects 9.0: another version of the references",
    ]


@pytest.mark.parametrize(
    ("name", "recordings", "speech"),
    # The papers' counts of recordings; the seconds tell AMI's only_words from word_and_vocalsounds (31,607.6 s).
    [("ami-array", 16, 30713.9), ("ami-headset", 16, 30713.9), ("aishell4", 20, None)],
)
@pytest.mark.parametrize("table", ["folder", "kaldi"])
def test_published_references_are_the_right_version(name, recordings, speech, table, shared_data, tmp_path):
    root = shared_data / "published" / name
    path = tmp_path / f"{name}.toml"
    path.write_text(
        f'{HEAD}uem = "uem"\n[{table}]\nroot = "{root}"\naudio = "none"\nreference = "reference"\n'
        f"[expect]\nrecordings = {recordings}\n" + (f"speech = {speech}\n" if speech else "")
    )
    card = read_card(path, DatasetCard)
    dataset = load_dataset(name, path, card)
    assert mismatches(dataset.recordings, card.expect) == []
    if speech:
        (said,) = mismatches(dataset.recordings, card.expect.model_copy(update={"speech": 31607.6}))
        assert said == "30,713.9 s of speech, the card expects 31,607.6: another version of the references"


def test_published_references_of_voxconverse(shared_data):
    assert len(read_references(shared_data / "published" / "voxconverse" / "reference")) == 232


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folder", "kaldi", "lhotse"])
def test_a_thousand_hours_take_seconds(name, tmp_path):
    """60,000 sparse files of a minute, 900,000 turns: listed, counted, digested and planned in one process."""
    write_hours(tmp_path, 1000)
    code = (
        "import resource, sys, time\nfrom pathlib import Path\n"
        "from diarbench.cards import DatasetCard, read_card\nfrom diarbench.loaders import load_dataset\n"
        "from diarbench.loaders.facts import facts_of\nfrom diarbench.plan import plan\n"
        "from diarbench.registry import Registry, shipped\n"
        f"path = Path({str(tmp_path)!r}, '{name}.toml')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "dataset = load_dataset(path.stem, path, read_card(path, DatasetCard))\n"
        "facts = facts_of(dataset.recordings)\n"
        "systems = Registry((shipped(),)).choose_systems(['silence'])\n"
        "(job,) = plan(systems, [dataset], device='cpu', threads=1, limit=None)\n"
        "print(facts.recordings, facts.hours, job.key, time.process_time(),\n"
        "      (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    recordings, hours, _, seconds, megabytes = done.stdout.split()
    print(f"{name}: {float(seconds):.1f} s of CPU time, {float(megabytes):.0f} MB")
    assert (recordings, hours) == ("60000", "1000.0")
    assert float(seconds) < 60
    assert float(megabytes) < 600


@pytest.mark.parametrize("layout", ["pyannote", "huggingface"])
def test_a_package_that_is_not_installed(layout, corpus, tmp_path, monkeypatch):
    needs(layout)
    write(layout, corpus, tmp_path)
    for name in [name for name in sys.modules if name.startswith(("pyannote.database", "pyarrow"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("pyannote.database", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f"{layout}.toml"
    with pytest.raises(MissingRequirementError, match="pip install 'diarbench"):
        load_dataset(layout, path, read_card(path, DatasetCard))


def test_listing_a_layout_imports_no_other(corpus, tmp_path):
    path = write("files", corpus, tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\nfrom diarbench.cards import DatasetCard, read_card\n"
        "from diarbench.loaders import load_dataset\n"
        f"path = Path({str(path)!r})\nload_dataset('files', path, read_card(path, DatasetCard))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('pyannote', 'pyarrow', 'lhotse', 'torch')\n"
        "       or name.startswith('diarbench.loaders.') and name.split('.')[-1] not in ('corpus', 'facts', 'folder')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


def test_errors_of_lists_have_lines(corpus, tmp_path):
    corpus.listed.append("beta")
    with pytest.raises(RttmError, match=r"scp, line 4: the recording id 'beta' is there twice \(first on line 3\)"):
        load("kaldi", corpus, tmp_path)
