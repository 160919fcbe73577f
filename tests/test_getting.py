"""Datasets that are downloaded from a server on this machine: files, archives, repositories of a hub."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile
from filelock import FileLock

from diarbench.cards import CardError, DatasetCard, read_card
from diarbench.corpora.getting import Got, get_dataset
from diarbench.corpora.presence import presence
from diarbench.errors import InputError, MissingRequirementError, StoreError

sys.path.insert(0, str(Path(__file__).parent))  # file_server.py, hub_server.py

import file_server
import hub_server

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\nuem = "whole-file"\n'
RTTM = "SPEAKER {id} 1 0 1 <NA> <NA> A <NA> <NA>\n"


def wav() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, [0.0] * 16000, 16000, format="WAV")
    return out.getvalue()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Lab:
    def __init__(self, root: Path, server: file_server.Server) -> None:
        self.root, self.server, self.data = root, server, root / "data"
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name in ("r1", "r2"):
                file.writestr(f"reference/{name}.rttm", RTTM.format(id=name))
        self.files = {"/x/r1.wav": wav(), "/x/r2.wav": wav(), "/refs.zip": archive.getvalue()}
        for path, content in self.files.items():
            server.files[path] = file_server.File(content)

    def card(self, **changes: str) -> tuple[str, Path, DatasetCard]:
        parts = {
            "more": "",
            "root": "corpus",
            "sha": sha(self.files["/refs.zip"]),
            "to": ".",
            "audio": f'[[download.files]]\nurl = "{self.server.url}/x/{{id}}.wav"\nto = "audio/{{id}}.wav"\n'
            f'ids = ["r1", "r2"]\nsha256 = {{ r1 = "{sha(wav())}", r2 = "{sha(wav())}" }}\n',
        } | changes
        text = (
            f'{HEAD}{parts["more"]}[folder]\nroot = "{parts["root"]}"\n'
            f'[[download.files]]\nurl = "{self.server.url}/refs.zip"\nto = "{parts["to"]}"\nunpack = true\n'
            f'sha256 = "{parts["sha"]}"\n{parts["audio"]}[expect]\nrecordings = 2\n'
        )
        path = self.root / "lab.toml"
        path.write_text(text)
        return "lab", path, read_card(path, DatasetCard)

    def get(self, into: Path | None = None, agreed: bool = False, **changes: str) -> Got:
        return get_dataset(*self.card(**changes), into=into, agreed=agreed)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    for name in ("DIARBENCH_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
    with file_server.serve() as server:
        yield Lab(tmp_path, server)


def test_all_of_it(lab):
    got = lab.get()
    assert got.folder == lab.data / "corpus"
    assert [url.removeprefix(lab.server.url) for url in got.fetched] == ["/refs.zip", "/x/r1.wav", "/x/r2.wav"]
    assert (got.kept, got.unchecked) == (0, ())
    assert presence(*lab.card()).state == "here"
    assert not list(lab.data.rglob("*.part*"))
    assert not list(lab.data.rglob("*.zip"))
    again = lab.get()
    assert (again.fetched, again.kept, len(lab.server.seen)) == ((), 3, 3)


def test_what_breaks_off_goes_on_and_what_is_whole_is_not_fetched_again(lab):
    lab.server.files["/x/r2.wav"].statuses = [404]
    with pytest.raises(InputError, match="there is no"):
        lab.get()
    lab.server.seen.clear()
    assert [url.removeprefix(lab.server.url) for url in lab.get().fetched] == ["/x/r2.wav"]
    assert [path for path, _ in lab.server.seen] == ["/x/r2.wav"]


def test_another_version_of_an_archive_is_unpacked_again(lab):
    lab.get()
    again = io.BytesIO()
    with zipfile.ZipFile(again, "w") as file:
        file.writestr("reference/r1.rttm", RTTM.format(id="r1").replace("A", "B"))
    lab.server.files["/refs.zip"].content = again.getvalue()
    assert lab.get(sha=sha(again.getvalue())).fetched == (f"{lab.server.url}/refs.zip",)
    assert "B" in (lab.data / "corpus" / "reference" / "r1.rttm").read_text()


def test_where_it_is_put(lab, tmp_path):
    assert lab.get(into=tmp_path / "other").folder == tmp_path / "other" / "corpus"
    (tmp_path / "corpus").mkdir()  # beside the card: it lies there
    assert lab.get().folder == tmp_path / "corpus"
    assert lab.get(root=str(tmp_path / "absolute")).folder == tmp_path / "absolute"
    assert not lab.data.exists()


def test_terms_have_to_be_agreed_to(lab):
    more = '[download]\nterms = "https://example.org/terms"\n'
    table = lab.card()[1].read_text()
    path = lab.root / "lab.toml"
    path.write_text(table.replace("[[download.files]]", f"{more}[[download.files]]", 1))
    card = read_card(path, DatasetCard)
    with pytest.raises(MissingRequirementError, match=r"read https://example\.org/terms, .* data get lab --agree`"):
        get_dataset("lab", path, card)
    assert lab.server.seen == []
    assert get_dataset("lab", path, card, agreed=True).fetched


def test_offline(lab, monkeypatch):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    with pytest.raises(MissingRequirementError, match="DIARBENCH_OFFLINE is set"):
        lab.get()
    assert lab.server.seen == []


def test_an_archive_that_leads_out_is_not_used(lab):
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as file:
        file.writestr("../../../evil", "x")
    lab.server.files["/refs.zip"].content = evil.getvalue()
    with pytest.raises(InputError, match="leads out of the folder"):
        lab.get(sha=sha(evil.getvalue()))
    assert not list(lab.root.rglob("evil"))


def test_two_at_once(lab):
    (lab.data / "corpus" / ".diarbench").mkdir(parents=True)
    with (
        FileLock(lab.data / "corpus" / ".diarbench" / "lock"),
        pytest.raises(StoreError, match="another diarbench is fetching into it"),
    ):
        lab.get()


def test_files_without_a_digest_are_named(lab):
    audio = f'[[download.files]]\nurl = "{lab.server.url}/x/r1.wav"\nsha256 = "{sha(wav())}"\nto = "audio/r1.wav"\n'
    card = lab.card(audio=audio)[2]
    file = card.download.files[1].model_copy(update={"sha256": None})
    card = card.model_copy(update={"download": card.download.model_copy(update={"files": [file]})})
    assert get_dataset("lab", lab.root / "lab.toml", card).unchecked == (f"{lab.server.url}/x/r1.wav",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('url = "http://example.org/a.wav"', "is not encrypted; give its `sha256`"),
        ('url = "ftp://example.org/a.wav"', "begins with https://"),
        ('url = "https://me:secret@example.org/a.wav"', "without a password"),
        ('url = "https://example.org/{id}.wav"', "`ids` and {id} in `url` belong together"),
        ('url = "https://example.org/a.wav"\nids = ["a"]', "`ids` and {id} in `url` belong together"),
        ('url = "https://example.org/{id}.wav"\nids = ["a"]\nbytes = 3', "and no `bytes`"),
        (f'url = "https://example.org/{{id}}"\nids = ["a"]\nsha256 = {{ b = "{"0" * 64}" }}', "'a' is in one of them"),
        (f'url = "https://example.org/a"\nsha256 = {{ a = "{"0" * 64}" }}', "a text of 64"),
        ('url = "https://example.org/a.zip"\nunpack = true', "`unpack` needs `to`"),
        ('url = "https://example.org/a.zip"\nto = "../up"', "path inside"),
    ],
)
def test_downloads_that_a_card_can_not_mean(lab, text, says):
    with pytest.raises(CardError) as error:
        lab.card(audio=f"[[download.files]]\n{text}\n")
    assert says in str(error.value)


def test_ids_stay_inside_too(lab):
    audio = '[[download.files]]\nurl = "https://example.org/{id}"\nto = "{id}"\nids = ["../../x"]\n'
    with pytest.raises(InputError, match="leads out of the dataset's folder"):
        lab.get(audio=audio)


def test_files_of_a_hub(lab, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="fetching needs huggingface_hub")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    files = {"audio/r1.wav": wav(), "reference/r1.rttm": RTTM.format(id="r1").encode(), "huge.tar": b"x"}
    path = tmp_path / "hubbed.toml"

    def card(gated: str = "false") -> DatasetCard:
        path.write_text(
            f'{HEAD}[folder]\nroot = "corpus"\n[download.hub]\nrepository = "o/c"\nrevision = "main"\n'
            f'files = ["audio/*", "reference/*"]\ngated = {gated}\n'
        )
        return read_card(path, DatasetCard)

    with hub_server.serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        repository = hub.add("o/c", files, kind="dataset")
        got = get_dataset("hubbed", path, card())
        assert got.fetched == ("o/c/audio/r1.wav", "o/c/reference/r1.rttm")
        assert (presence("hubbed", path, card()).state, (lab.data / "corpus" / "huge.tar").exists()) == ("here", False)
        assert get_dataset("hubbed", path, card()).fetched == ()
        repository.gated = True
        hub.repositories["o/d"] = repository
        path.write_text(path.read_text().replace("o/c", "o/d"))
        with pytest.raises(MissingRequirementError, match=r"o/d is gated: accept the .* HF_TOKEN") as error:
            get_dataset("hubbed", path, read_card(path, DatasetCard))
        assert "\n" not in str(error.value)
