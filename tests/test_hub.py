from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

from diarbench import hub as module
from diarbench.errors import DiarbenchError, InputError, MissingRequirementError, StoreError
from diarbench.hub import cached, fetch_snapshot, files_in, hub_cache, why_offline

sys.path.insert(0, str(Path(__file__).parent))  # hub_server.py

from hub_server import TOKEN, Hub, serve

FILES = {"config.toml": b"x = 1\n", "pytorch_model.bin": b"w" * 1000, "plda/a.npz": b"a", "plda/b.npz": b"b"}
MODEL = ["config.toml", "pytorch_model.bin"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of this test's own, an empty cache, no token, nothing switched off."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIARBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_CACHE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    module._fetched.cache_clear()
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def again() -> None:
    """As a new process would."""
    module._fetched.cache_clear()


def complaint(kind: type[DiarbenchError], *what, **how) -> str:
    with pytest.raises(kind) as error:
        fetch_snapshot(*what, **how)
    text = str(error.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


def asked(hub: Hub, what: str) -> list[str]:
    return [line for line in hub.seen if what in line]


# --- fetching


def test_only_what_is_needed_is_fetched_and_the_commit_is_told(hub):
    commit = hub.add("o/r", FILES | {"README.md": b"much"}).main
    found = fetch_snapshot("o/r", "main", [*MODEL, "plda/*.npz"])
    assert found.commit == commit
    assert {path: (found.folder / path).read_bytes() for path in files_in(found.folder, ["*"])} == FILES
    assert found.folder.is_relative_to(hub_cache())
    assert not asked(hub, "README")


def test_a_commit_that_is_there_is_not_asked_for_again(hub):
    commit = hub.add("o/r", FILES).main
    first = fetch_snapshot("o/r", commit, MODEL)
    again()
    hub.seen.clear()
    assert fetch_snapshot("o/r", commit, MODEL) == first
    assert hub.seen == []
    assert fetch_snapshot("o/r", commit, ["plda/a.npz"]) == first
    assert asked(hub, "GET /o/r/resolve")


def test_a_part_of_what_a_pattern_means_is_not_taken_for_the_whole(hub):
    commit = hub.add("o/r", FILES).main
    fetch_snapshot("o/r", commit, ["plda/a.npz"])
    found = fetch_snapshot("o/r", commit, ["plda/*.npz"])
    assert files_in(found.folder, ["plda/*.npz"]) == ["plda/a.npz", "plda/b.npz"]
    again()
    hub.seen.clear()
    assert fetch_snapshot("o/r", commit, ["plda/*.npz"]) == found
    assert hub.seen == []


def test_a_branch_that_moved_is_another_commit_but_is_looked_up_once_per_process(hub):
    repository = hub.add("o/r", {"a.bin": b"old"})
    old = fetch_snapshot("o/r", "main", ["a.bin"])
    repository.commits["b" * 40] = {"a.bin": b"new"}
    assert fetch_snapshot("o/r", "main", ["a.bin"]) == old
    again()
    new = fetch_snapshot("o/r", "main", ["a.bin"])
    assert new.commit == "b" * 40
    assert (new.folder / "a.bin").read_bytes() == b"new"
    assert (old.folder / "a.bin").read_bytes() == b"old"


@pytest.mark.parametrize("status", [500, 503, None])
def test_a_branch_is_what_it_was_where_the_hub_fails(hub, monkeypatch, status):
    hub.add("o/r", FILES)
    before = fetch_snapshot("o/r", "main", MODEL)
    again()
    hub.broken = status
    if status is None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert fetch_snapshot("o/r", "main", MODEL) == before


def test_an_interrupted_fetch_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library waits between its attempts
    repository = hub.add("o/r", FILES)
    repository.cut.add("pytorch_model.bin")
    assert "check the network and run the same command again (what was fetched is kept)" in complaint(
        MissingRequirementError, "o/r", "main", MODEL
    )
    assert cached(hub_cache(), "o/r", "main", MODEL) is None
    repository.cut.clear()
    found = fetch_snapshot("o/r", "main", MODEL)
    assert (found.folder / "pytorch_model.bin").read_bytes() == FILES["pytorch_model.bin"]


def test_only_a_terminal_sees_bars(hub, capfd):
    hub.add("o/r", FILES)
    fetch_snapshot("o/r", "main", MODEL)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


# --- what is refused, in a line that says what to do


def test_gated_without_a_token(hub):
    hub.add("o/r", FILES, gated=True)
    said = complaint(MissingRequirementError, "o/r", "main", MODEL, gated=True)
    assert f"o/r is gated: accept the conditions at {hub.url}/o/r" in said
    assert "set HF_TOKEN" in said


def test_gated_with_conditions_not_accepted(hub, monkeypatch):
    hub.add("o/r", FILES, gated=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    said = complaint(MissingRequirementError, "o/r", "main", MODEL)
    assert f"the account of your token has no access: accept the conditions at {hub.url}/o/r" in said


def test_gated_with_access(hub, monkeypatch):
    hub.add("o/r", FILES, gated=True, members={TOKEN})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = fetch_snapshot("o/r", "main", MODEL, gated=True)
    kept = [path for path in Path(os.environ["HF_HOME"]).rglob("*") if path.is_file()]
    assert kept
    assert not any(TOKEN.encode() in path.read_bytes() for path in kept)
    assert TOKEN not in repr(found)


def test_a_token_that_is_none(hub, monkeypatch):
    hub.add("o/r", FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
    said = complaint(MissingRequirementError, "o/r", "main", MODEL)
    assert "the hub does not know the token that is set" in said
    assert f"{hub.url}/settings/tokens" in said
    assert "hf_of_yesterday" not in said


def test_private_repositories_and_such_as_are_not_there(hub, monkeypatch):
    hub.add("o/secret", FILES, private=True, members={TOKEN})
    for name in ("o/secret", "o/gone"):
        said = complaint(InputError, name, "main", MODEL)
        assert f"there is no repository {name} on {hub.url}, or it is private" in said
    # The hub hides gated ones behind the same answer where nobody says who asks.
    assert "o/secret is gated" in complaint(MissingRequirementError, "o/secret", "main", MODEL, gated=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_snapshot("o/secret", "main", MODEL).commit
    complaint(InputError, "o/gone", "main", MODEL)


def test_revisions_and_files_that_are_not_there(hub):
    hub.add("o/r", FILES)
    assert "o/r has no revision 'dev'" in complaint(InputError, "o/r", "dev", MODEL)
    assert "o/r has no revision 'aaaa" in complaint(InputError, "o/r", "a" * 40, MODEL)
    assert "has no file 'model.bin'; see" in complaint(InputError, "o/r", "main", ["config.toml", "model.bin"])
    assert "has no file 'lda/*'; see" in complaint(InputError, "o/r", "main", ["config.toml", "lda/*"])


def test_no_network(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://anna:pass" + "word@127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the user waits"))
    for revision in ("main", "a" * 40):
        said = complaint(MissingRequirementError, "o/r", revision, MODEL)
        assert "o/r can't be fetched from http://***@127.0.0.1:1 (" in said
        assert "--weights DIR" in said
        assert "password" not in said


def test_a_hub_out_of_order(hub):
    hub.broken = 500
    assert "(the hub answered 500)" in complaint(MissingRequirementError, "o/r", "main", MODEL)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "no space left on the disk of the hub's cache"),
        (PermissionError(13, "Permission denied", "/there"), "/there can't be written, fetching o/r: set HF_HOME"),
    ],
)
def test_disks_that_take_nothing(hub, monkeypatch, error, says):
    hub.add("o/r", FILES)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert says in complaint(StoreError, "o/r", "main", MODEL)


def test_a_token_in_what_the_library_says_is_not_passed_on(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"\nsent 'Bearer {TOKEN}'\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert "RuntimeError: sent 'Bearer ***')" in complaint(MissingRequirementError, "o/r", "main", MODEL)


def test_without_the_library(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = complaint(MissingRequirementError, "o/r", "main", MODEL)
    assert "needs huggingface_hub: pip install huggingface_hub; or fetch it elsewhere" in said


# --- nothing is fetched


@pytest.mark.parametrize("switch", ["DIARBENCH_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline(hub, monkeypatch, switch):
    commit = hub.add("o/r", FILES).main
    monkeypatch.setenv(switch, "1")
    assert why_offline() == switch
    for revision in ("main", commit):
        said = complaint(MissingRequirementError, "o/r", revision, MODEL)
        assert f"o/r ({revision}) is not on this machine ({hub_cache()}) and {switch} is set" in said
        assert "hf download o/r --local-dir DIR/r" in said
    assert hub.seen == []
    monkeypatch.delenv(switch)
    found = fetch_snapshot("o/r", "main", MODEL)
    monkeypatch.setenv(switch, "1")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what is there needs no library
    hub.seen.clear()
    assert fetch_snapshot("o/r", "main", MODEL) == fetch_snapshot("o/r", commit, MODEL) == found
    assert "o/r (main) is not on this machine" in complaint(MissingRequirementError, "o/r", "main", ["plda/a.npz"])
    assert hub.seen == []


@pytest.mark.parametrize(("value", "off"), [("0", False), ("", False), ("no", False), ("true", True), ("1", True)])
def test_switches_are_read_as_the_hub_reads_them(hub, monkeypatch, value, off):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert (why_offline() is not None) == off


@pytest.mark.parametrize(
    "environment",
    [{}, {"HF_HOME": "/a/b"}, {"HF_HUB_CACHE": "~/c"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HOME": "$HOME/h"}],
)
def test_the_cache_is_where_the_library_has_it(monkeypatch, environment):
    names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert hub_cache() == Path(said)


def test_hidden_files_are_no_weights(tmp_path):
    for name in (".git/config.toml", ".cache/x.toml", "a/.b.toml", "a/b.toml", "c.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert files_in(tmp_path, ["*.toml"]) == ["a/b.toml", "c.toml"]
    with pytest.raises(MissingRequirementError, match=r"holds no d\.toml, which the card names"):
        files_in(tmp_path, ["c.toml", "d.toml"])


def test_datasets_are_repositories_of_their_own(hub, monkeypatch):
    hub.add("o/speech", {"data/test.parquet": b"rows", "README.md": b"about"}, kind="dataset")
    here = fetch_snapshot("o/speech", "main", ["data/*.parquet"], kind="dataset")
    assert (here.folder / "data" / "test.parquet").read_bytes() == b"rows"
    assert not (here.folder / "README.md").exists()
    assert here.folder.parent.parent.name == "datasets--o--speech"
    assert here.commit is not None
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    assert fetch_snapshot("o/speech", here.commit, ["data/*.parquet"], kind="dataset") == here
    with pytest.raises(MissingRequirementError, match=r"hf download --repo-type dataset o/other --local-dir DIR"):
        fetch_snapshot("o/other", "main", ["*.parquet"], kind="dataset")
    monkeypatch.delenv("DIARBENCH_OFFLINE")
    with pytest.raises(InputError, match="there is no repository o/speech"):
        fetch_snapshot("o/speech", "main", ["data/*.parquet"])
    hub.add("o/closed", {"a.parquet": b""}, kind="dataset", gated=True)
    with pytest.raises(MissingRequirementError, match=r"o/closed is gated: .*/datasets/o/closed, make a token"):
        fetch_snapshot("o/closed", "main", ["*.parquet"], kind="dataset", gated=True)
