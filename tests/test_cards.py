from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.cards import DatasetCard, ReportCard, SystemCard, expand, read_card
from diarbench.errors import CardError

SYSTEM = 'title = "t"\nadapter = "./a.py:A"\n'
DATASET = 'title = "t"\nuem = "whole-file"\nlicence = "CC0"\nget = "here"\n'
SIMULATE = "[simulate]\nspeech = 'x'\nconversations = 1\nduration = 60.0\nspeakers = [2, 4]\nseed = 0\n"
REPORT = 'title = "t"\nsystems = ["a"]\ndatasets = ["b"]\n'


def complaint(folder: Path, text: str | bytes, kind: type = SystemCard, name: str = "card.toml") -> str:
    """What `read_card` says, without the path; checked to be one line that begins with the path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CardError) as error:
        read_card(path, kind)
    said = str(error.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < len(str(path)) + 400
    return said.removeprefix(str(path))


# --- what is wrong is named: line, key, what is known, what was meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SYSTEM + 'adaptor = "x"\n', ", line 3: unknown key 'adaptor'; did you mean adapter?"),
        (SYSTEM + "zzz = 1\n", ", line 3: unknown key 'zzz'; known: adapter, baseline, compression,"),
        (SYSTEM + "\n[compresion]\nmethod = 1\n", ", line 4: unknown key 'compresion'; did you mean compression?"),
        (SYSTEM + '[weights.seg]\npath = "x"\nsha = "y"\n', ", line 5: unknown key 'weights.seg.sha'; did you mean"),
        (SYSTEM + '[weights."a.b"]\npath = "x"\nwhel = "y"\n', "unknown key 'weights.a.b.whel'; did you mean wheel?"),
        (SYSTEM + '[weights]\nseg = {path = "x", sha = "y"}\n', ", line 4: unknown key 'weights.seg.sha'"),
        (SYSTEM + 'weights.seg.pth = "x"\n', ", line 3: unknown key 'weights.seg.pth'; did you mean path?"),
        (SYSTEM + "a.b.c = 1\n", ", line 3: unknown key 'a'; known: "),
        ("", ": the key 'title' is missing (and 1 more)"),
        ('title = "t"\n', ": the key 'adapter' is missing"),
        (SYSTEM + "devices = 'cpu'\n", ", line 3: 'devices' should be a list, found 'cpu'"),
        (SYSTEM + "devices = ['gpu']\n", ", line 3: 'devices.0' should be 'cpu' or 'cuda', found 'gpu'"),
        (SYSTEM + "devices = []\n", ", line 3: 'devices' should not be empty, found []"),
        (SYSTEM + "source = 5\n", ", line 3: 'source' should be a text, found 5"),
        (SYSTEM + "licence = ' '\n", ", line 3: 'licence' should not be empty, found ' '"),
        (SYSTEM + 'licence = "a\\nb"\n', ", line 3: [licence]: should be one line, without control characters"),
        (SYSTEM + 'source = "\\u001b[2J"\n', ", line 3: [source]: should be one line, without control characters"),
        (SYSTEM + "requires = [1]\n", ", line 3: 'requires.0' should be a text, found 1"),
        (SYSTEM + "compression = 3\n", ", line 3: 'compression' should be a table, found 3"),
        (SYSTEM + "source = [" + "1, " * 500 + "]\n", ", line 3: 'source' should be a text, found [1, 1, 1, 1,"),
        (SYSTEM + "[weights]\nseg = 'x'\n", ", line 4: 'weights.seg' should be a table, found 'x'"),
        (SYSTEM + "[weights.seg]\n", ", line 3: [weights.seg]: say where the weights are: either `wheel`"),
        (SYSTEM + "[weights.seg]\npath = 'x'\nwheel = 'y'\n", ", line 3: [weights.seg]: say where the weights are"),
        (SYSTEM + "[weights.seg]\nwheel = 'x==1'\n", ", line 3: [weights.seg]: weights in a wheel need `member`"),
        (SYSTEM + "[weights.seg]\npath = 'x'\nsha256 = 'abc'\n", ", line 5: 'weights.seg.sha256' should be 64 hexa"),
        (SYSTEM + f"[weights.seg]\npath = 'x'\nsha256 = '{'A' * 64}'\n", "64 hexadecimal digits in lower case"),
        (SYSTEM + "[sweep]\nwindow = 8\n", ", line 4: 'sweep.window' should be a list, found 8"),
        (SYSTEM + "[sweep]\nwindow = []\n", ", line 4: 'sweep.window' should not be empty, found []"),
        (SYSTEM + "[sweep]\nwindow = [8, nan]\n", ", line 4: [sweep.window.1]: nan can't be kept in JSON"),
        (SYSTEM + "[options]\nx = nan\n", ", line 4: [options.x]: nan can't be kept in JSON; use finite numbers"),
        (SYSTEM + "[options]\nx = {y = [0, -inf]}\n", ", line 4: [options.x]: -inf can't be kept in JSON"),
        (SYSTEM + "[options]\nx = 1979-05-27\n", ", line 4: [options.x]: 1979-05-27 can't be kept in JSON"),
        (SYSTEM + "[options]\nx = [07:32:00]\n", ", line 4: [options.x]: 07:32:00 can't be kept in JSON"),
        (SYSTEM + "[compression]\nsparsity = nan\n", ", line 4: [compression.sparsity]: nan can't be kept in JSON"),
        (SYSTEM + "[options]\n'../x' = 1\n", ", line 3: [options]: '../x' can't be the name of an option"),
        (SYSTEM + "[sweep]\n'../x' = [1]\n", ", line 3: [sweep]: '../x' can't be the name of an option"),
        (SYSTEM + "trained_parts = ['AMI']\n", ", line 3: [trained_parts.0]: 'AMI' should name a corpus, or a part of"),
        (SYSTEM + "may_have_seen = ['ami/dev']\n", ", line 3: [may_have_seen.0]: 'ami/dev' should name a corpus, or"),
        ("title = \n", ": not valid TOML: Invalid value (at line 1, column 9)"),
        (SYSTEM + "title = 'again'\n", ": not valid TOML: Cannot overwrite a value"),
        (SYSTEM + "x = " + "[" * 10_000, ": not valid TOML: "),
        (SYSTEM + "x = " + "1" * 10_000, ": not valid TOML: "),
        (b"title = '\xe9'\n", ": not a UTF-8 text file (byte 9)"),
    ],
)  # fmt: skip
def test_system_cards(tmp_path, text, says):
    assert says in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "",
            ": say where the data is, by exactly one of the tables [folder], [kaldi], [pyannote], [lhotse], "
            "[huggingface], [wheel] and [simulate]",
        ),
        ("[folder]\n" + SIMULATE, ": say where the data is"),
        ("[folder]\nrefrence = 'x'\n", ", line 6: unknown key 'folder.refrence'; did you mean reference?"),
        ("[folder]\n[expect]\nrecordngs = 3\n", ", line 7: unknown key 'expect.recordngs'; did you mean recordings?"),
        ("[folder]\n[expect]\nrecordings = '3'\n", ", line 7: 'expect.recordings' should be a whole number, found '3'"),
        ("[folder]\n[expect]\nhours = nan\n", ", line 7: 'expect.hours' should be a finite number, found nan"),
        ("[folder]\nroot = 3\n", ", line 6: 'folder.root' should be a text, found 3"),
        ("folder = 'x'\n", ", line 5: 'folder' should be a table, found 'x'"),
        ("[wheel]\nwheel = 'x==1'\n", ", line 5: the key 'wheel.audio' is missing (and 3 more)"),
        ("channel = 'second'\n[folder]\n", ', line 5: [channel]: should be "first", "mix" or the number of'),
        ("channel = -1\n[folder]\n", ", line 5: [channel]: should be"),
        ("channel = true\n[folder]\n", ", line 5: [channel]: should be"),
        ("channel = 1.0\n[folder]\n", ", line 5: [channel]: should be"),
        ("sample_rate = 0\n[folder]\n", ", line 5: 'sample_rate' should be greater than 0, found 0"),
        ("synthetic = 'yes'\n[folder]\n", ", line 5: 'synthetic' should be true or false, found 'yes'"),
        ("part = 'test'\n[folder]\n", ": `part` is part of a `corpus`: name that too"),
        ("corpus = 'AMI'\n[folder]\n", ", line 5: [corpus]: 'AMI' can't be the name of a corpus: use lower-case"),
        ("corpus = 'ami'\npart = 'eval'\n[folder]\n", ", line 6: 'part' should be 'train', 'development' or 'test'"),
        ("[folder]\n[expect]\noverlap = 101.0\n", ", line 7: 'expect.overlap' should be less than or equal to 100"),
        ("[folder]\n[expect]\nspeakers_each = [3]\n", ", line 7: the key 'expect.speakers_each.1' is missing"),
        ("[folder]\n[expect.versions.x]\nspech = 1.0\n", ", line 7: unknown key 'expect.versions.x.spech'; did you"),
        ("[folder]\n[[download.files]]\nurl = 'x'\n", "[download.files.0.url]: 'x' should be an address that begins"),
        (
            "[folder]\n[[download.files]]\nurl = 'https://x/'\nsha256 = 'abc'\n",
            "'download.files.0.sha256' should be 64 hexadecimal digits in lower case, found 'abc'",
        ),
        (
            "[folder]\n[[download.files]]\nurl = 'https://x/{id}'\nids = ['a']\nsha256 = { a = 'abc' }\n",
            "'download.files.0.sha256.a' should be 64 hexadecimal digits in lower case, found 'abc'",
        ),
        ("[huggingface]\ngated = true\n", ", line 5: [huggingface]: `gated` belongs to a dataset of a `hub`"),
        (SIMULATE.replace("ations = 1", "ations = 0"), ", line 7: 'simulate.conversations'"),
        (SIMULATE.replace("60.0", "nan"), ", line 8: 'simulate.duration'"),
        (SIMULATE.replace("[2, 4]", "[2]"), ", line 9: the key 'simulate.speakers.1'"),
    ],
)  # fmt: skip
def test_dataset_cards(tmp_path, text, says):
    assert says in complaint(tmp_path, DATASET + text, DatasetCard)


def test_the_region_must_be_said(tmp_path):
    assert ": the key 'uem' is missing" in complaint(tmp_path, DATASET.replace("uem", "#") + "[folder]\n", DatasetCard)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (REPORT + "system = ['x']\n", ", line 4: unknown key 'system'; did you mean systems?"),
        ("title = 't'\nsystems = []\ndatasets = ['x']\n", ", line 2: 'systems' should not be empty"),
    ],
)
def test_report_cards(tmp_path, text, says):
    assert says in complaint(tmp_path, text, ReportCard)


def test_lines_are_counted_with_any_line_end_and_past_texts_of_several_lines(tmp_path):
    text = SYSTEM + 'description = """\nadaptor = 5\n[weights.x]\n"""\nadaptor = "x"\n'
    assert ", line 7: unknown key 'adaptor'" in complaint(tmp_path, text)
    assert ", line 7: unknown key 'adaptor'" in complaint(tmp_path, text.replace("\n", "\r\n"))
    assert ", line 7: unknown key 'adaptor'" in complaint(tmp_path, "\ufeff" + text)


@pytest.mark.parametrize("name", ["My System.toml", "Ünicode.toml", ".hidden.toml", "-x.toml", "a@b.toml", "A.toml"])
def test_names_that_can_not_be(tmp_path, name):
    assert "can't be one: use lower-case letters, digits" in complaint(tmp_path, SYSTEM, name=name)


def test_what_is_no_file(tmp_path):
    with pytest.raises(CardError, match=r"nowhere\.toml: can't be read \(No such file"):
        read_card(tmp_path / "nowhere.toml", SystemCard)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(CardError, match=r"can't be read \(Is a directory\)"):
        read_card(tmp_path / "folder.toml", SystemCard)


@given(st.text(max_size=60))
def test_any_text_is_a_card_or_an_error_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "x.toml"
    path.write_bytes((SYSTEM + text).encode("utf-8", "ignore"))
    try:
        read_card(path, SystemCard)
        said = ""
    except CardError as error:
        said = str(error)
    assert "\n" not in said


# --- what is right


def test_a_whole_system_card(cards):
    card = read_card(
        cards.system(
            "x",
            '\ufefftitle = " Spaces go "\r\nadapter = "pkg.module:Class"\nbaseline = "y"\ndevices = ["cpu", "cuda"]\n'
            'requires = ["numpy>=1"]\n[compression]\nmethod = "none"\nsparsity = 0.5\nbits = 8\n[weights.seg]\n'
            f'wheel = "x==1"\nmember = "m"\nsha256 = "{"0" * 64}"\n[files]\nprogram = "run.sh"\n'
            "[options]\nflag = true\ncount = 1\nwindow = 16.0\nname = 'n'\nparts = [1, 'a', [2.5]]\n"
            "table = {a = {b = 1}}\n",
        ),
        SystemCard,
    )
    assert card.title == "Spaces go"
    assert card.options == {
        "flag": True, "count": 1, "window": 16.0, "name": "n", "parts": [1, "a", [2.5]], "table": {"a": {"b": 1}},
    }  # fmt: skip
    # TOML tells 1 from 1.0 and from true; so do adapters.
    assert [type(card.options[key]) for key in ("flag", "count", "window")] == [bool, int, float]
    assert card.compression == {"method": "none", "sparsity": 0.5, "bits": 8}


def test_a_card_can_not_be_changed(cards):
    card = read_card(cards.system("x"), SystemCard)
    with pytest.raises(ValueError, match="frozen"):
        card.title = "other"


@pytest.mark.parametrize(
    ("written", "channel"), [("'first'", "first"), ("'mix'", "mix"), ("0", 0), ("7", 7), (None, None)]
)
def test_channel_rules(cards, written, channel):
    text = DATASET + (f"channel = {written}\n" if written else "") + "[folder]\n"
    card = read_card(cards.dataset("x", text), DatasetCard)
    assert card.channel == channel
    assert type(card.channel) is type(channel)


def test_simulated_speakers_are_two_numbers(cards):
    card = read_card(cards.dataset("x", DATASET + SIMULATE), DatasetCard)
    assert card.simulate is not None
    assert card.simulate.speakers == (2, 4)
    assert card.simulate.duration == 60.0


# --- sweeps


def variants(cards, text: str):
    path = cards.system("fam", SYSTEM + text)
    return expand("fam", path, read_card(path, SystemCard))


def test_a_card_without_a_sweep_is_one_system(cards):
    (spec,) = variants(cards, "[options]\nwindow = 8\n")
    assert (spec.name, spec.options, spec.folder) == ("fam", {"window": 8}, (cards.path / "systems").resolve())


def test_a_sweep_is_every_combination(cards):
    specs = variants(cards, "[options]\nbatch = 1\n[sweep]\nwindow = [8, 16.0]\nbits = ['int8', 'bf16', true]\n")
    assert [spec.name for spec in specs] == [
        f"fam@window={window},bits={bits}" for window in ("8", "16.0") for bits in ("int8", "bf16", "True")
    ]
    assert specs[1].options == {"batch": 1, "window": 8, "bits": "bf16"}
    assert specs[1].facts["options"] == specs[1].options
    assert "sweep" not in specs[1].facts


def test_values_that_make_no_name_are_shortened(cards):
    names = [spec.name for spec in variants(cards, "[sweep]\nx = ['a/../b', [1, 2], 'long long long', {y = 1}]\n")]
    assert len(set(names)) == 4
    for name in names:
        assert Path(name).name == name
        assert name.split() == [name]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[options]\nwindow = 4\n[sweep]\nwindow = [8]\n", "'window' is set in [options] and swept in [sweep]"),
        ("[sweep]\nwindow = [8, 16, 8]\n", "gives two variants the name 'fam@window=8'"),
        ("[sweep]\nwindow = [8, '8']\n", "gives two variants the name 'fam@window=8'"),
    ],
)
def test_sweeps_that_contradict_themselves(cards, text, says):
    with pytest.raises(CardError) as error:
        variants(cards, text)
    assert says in str(error.value)
    assert "fam.toml" in str(error.value)
