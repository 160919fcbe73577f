from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from diarbench import hub, weights
from diarbench.cards import SystemCard, SystemSpec, expand, read_card
from diarbench.errors import CardError, DiarbenchError, InputError, MissingRequirementError
from diarbench.files import size_of
from diarbench.plan import prepare
from diarbench.weights import Found, find_weights

sys.path.insert(0, str(Path(__file__).parent))  # hub_server.py

from hub_server import serve

FILES = {"config.toml": b"x = 1\n", "pytorch_model.bin": b"w" * 1000, "plda/a.npz": b"a", "plda/b.npz": b"b"}
SHA = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
COMMIT = "c" * 40
NEEDED = '["config.toml", "pytorch_model.bin", "plda/*.npz"]'


def repository(revision: str = "main", files: str = NEEDED, more: str = "") -> str:
    return f'hub = "o/r"\nrevision = "{revision}"\nfiles = {files}\n{more}'


@pytest.fixture(autouse=True)
def _alone(own_cache, tmp_path, monkeypatch):
    """Caches of this test's own, and no hub to be reached."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIARBENCH_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    hub._fetched.cache_clear()


@pytest.fixture
def spec(cards):
    def make(table: str) -> SystemSpec:
        text = f'title = "t"\nadapter = "./adapter.py:System"\n[weights.seg]\n{table}'
        path = cards.system("fam/sys", text)
        (path.parent / "adapter.py").write_text("class System: ...\n")
        (one,) = expand("sys", path, read_card(path, SystemCard))
        return one

    return make


def find(spec: SystemSpec, folder: Path | None = None) -> Found:
    return find_weights(spec, "seg", spec.card.weights["seg"], folder)


def complaint(spec: SystemSpec, folder: Path | None = None, kind: type[DiarbenchError] = InputError) -> str:
    with pytest.raises(kind) as error:
        find(spec, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_cache(cache: Path, files: dict[str, bytes] = FILES, branch: str = "main") -> Path:
    """As the hub's library lays it out; gives the snapshot's folder."""
    place = cache / "models--o--r"
    for name, content in files.items():
        link, blob = place / "snapshots" / COMMIT / name, place / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (place / "refs").mkdir()
    (place / "refs" / branch).write_text(COMMIT)
    return place / "snapshots" / COMMIT


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- what a card may say


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('hub = "o/r"\n', "weights from a hub need `files`"),
        ('hub = "o/r"\nfiles = ["a"]\n', 'a commit (40 hexadecimal digits), or a branch such as "main"'),
        ('hub = "o/r"\nrevision = "main"\nfiles = []\n', "files' should not be empty"),
        (repository() + 'path = "x"\n', "say where the weights are: either `wheel` with `member`, `path`, or `hub`"),
        ('path = "x"\nrevision = "main"\n', "`revision`, `files` and `gated` belong to weights from a `hub`"),
        ('path = "x"\ngated = true\n', "`revision`, `files` and `gated` belong to weights from a `hub`"),
        (repository(more='revison = "x"\n'), "unknown key 'weights.seg.revison'; did you mean revision?"),
        (repository(more='sha256 = "x"\n'), "'weights.seg.sha256' should be 64 hexadecimal digits"),
        (repository(more='sha256 = {"config.toml" = "x"}\n'), "'weights.seg.sha256.config.toml' should be 64 hex"),
        (repository(more=f'sha256 = "{"0" * 64}"\n'), "`sha256` of several files is a table: file = digest"),
        (repository(more=f'sha256 = {{"x" = "{"0" * 64}"}}\n'), "`sha256` names 'x', which is none of `files`"),
        (f'wheel = "a==1"\nmember = "x"\nsha256 = {{"x" = "{"0" * 64}"}}\n', "`sha256`, a text"),
        (repository(more="licence = 'two\\nlines'\n").replace("'two", '"two').replace("lines'", 'lines"'), "one line"),
    ],
)
def test_cards_that_can_not_be_right(spec, table, says):
    with pytest.raises(CardError) as error:
        spec(table)
    assert says in str(error.value)
    assert ", line " in str(error.value)


@pytest.mark.parametrize("name", ["r", "o/r/x", "../r", "o/..", "o/r--x", "https://hub/o/r", "o/r@main", "-o/r", "o/"])
def test_what_is_no_repository(spec, name):
    with pytest.raises(CardError, match="should be a repository of the hub, written owner/name"):
        spec(f'hub = "{name}"\nrevision = "main"\nfiles = ["a"]\n')


@pytest.mark.parametrize("file", ["../a", "/etc/passwd", "a/../../b", "~/a", "a//b", "./a", "a/", "..", "a\\\\b"])
def test_files_that_lead_out_of_the_repository(spec, file):
    with pytest.raises(CardError, match="should be a path inside the repository"):
        spec(repository(files=f'["{file}"]'))


@pytest.mark.parametrize("revision", ["../x", "a..b", "/main", "-x", "a b", "@{1}"])
def test_what_is_no_revision(spec, revision):
    with pytest.raises(CardError, match="should be a commit"):
        spec(repository(revision))


# --- from a hub


def test_from_a_hub_to_a_folder_of_what_is_needed(spec):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)
        commit = server.add("o/r", FILES | {"README.md": b"words"}).main
        found = find(spec(repository(more='licence = "CC BY-NC 4.0"\n')))
    assert contents(found.path) == FILES
    assert found.facts == {"commit": commit, "sha256": SHA}
    assert found.note == (
        f"weights o/r: licence CC BY-NC 4.0; not pinned: main is commit {commit[:12]} here, which results record"
    )


def test_a_file_that_is_not_what_the_hub_says_is_seen_without_a_digest_in_the_card(spec):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)
        server.add("o/r", FILES).sent["pytorch_model.bin"] = b"v" + b"w" * 999
        said = complaint(spec(repository()))
        assert "pytorch_model.bin is damaged: its SHA-256 is " in said
        assert f"the hub's is {SHA['pytorch_model.bin']}; remove " in said
        server.repositories["o/r"].sent.clear()
        Path(said.split("remove ")[1].split(" and ")[0]).unlink()
        hub._fetched.cache_clear()
        assert contents(find(spec(repository())).path) == FILES


def test_one_file_is_given_as_that_file(spec):
    write_cache(hub.hub_cache())
    found = find(spec(repository(COMMIT, '["plda/a.npz"]', f'sha256 = "{SHA["plda/a.npz"]}"\n')))
    assert found.path.name == "a.npz"
    assert found.path.read_bytes() == b"a"
    assert found.digest == SHA["plda/a.npz"]
    assert "pinned" not in str(found.note)


def test_a_pattern_that_fits_one_file_still_gives_a_folder(spec):
    write_cache(hub.hub_cache())
    assert contents(find(spec(repository("main", '["plda/a*"]'))).path) == {"plda/a.npz": b"a"}


def test_what_results_depend_on_is_the_content_wherever_it_lies(spec, tmp_path):
    write_cache(hub.hub_cache())
    cached = find(spec(repository()))
    local = find(spec(repository(more="gated = true\n")), write(tmp_path / "d" / "r").parent)
    assert cached.digest == local.digest
    assert cached.facts["sha256"] == local.facts["sha256"]
    assert (cached.facts["commit"], local.facts["commit"]) == (COMMIT, None)
    (tmp_path / "d" / "r" / "plda" / "b.npz").write_bytes(b"c")
    assert find(spec(repository()), tmp_path / "d").digest != local.digest


@pytest.mark.parametrize(
    ("sha256", "kind", "says"),
    [
        (f'{{"pytorch_model.bin" = "{SHA["pytorch_model.bin"]}", "plda/a.npz" = "{SHA["plda/a.npz"]}"}}', None, ""),
        (f'{{"pytorch_model.bin" = "{"0" * 64}"}}', InputError, f"the card says {'0' * 64}: it is not used"),
        (
            f'{{"plda/c.npz" = "{"0" * 64}"}}',
            MissingRequirementError,
            "holds no plda/c.npz, whose digest is in the card",
        ),
    ],
)
def test_digests_by_file(spec, tmp_path, sha256, kind, says):
    table = repository(more=f"sha256 = {sha256}\n")
    write_cache(hub.hub_cache())
    for folder in (None, write(tmp_path / "d" / "r").parent):
        if kind is None:
            assert contents(find(spec(table), folder).path) == FILES
        else:
            assert says in complaint(spec(table), folder, kind)


@pytest.mark.parametrize(
    ("table", "pinned"),
    [
        (repository(), False),
        (repository(COMMIT), True),
        (repository("main", '["config.toml"]', f'sha256 = "{"0" * 64}"\n'), True),
        (repository("main", '["config.toml", "b"]', f'sha256 = {{"config.toml" = "{"0" * 64}"}}\n'), False),
        (repository("main", '["*.toml"]', f'sha256 = {{"config.toml" = "{"0" * 64}"}}\n'), False),
    ],
)
def test_what_pins(spec, table, pinned):
    assert spec(table).card.weights["seg"].pinned == pinned


# --- from a folder that the user gives


@pytest.mark.parametrize("place", ["o/r", "r"])
def test_folders_as_people_have_them(spec, tmp_path, place):
    folder = tmp_path / "d"
    write(folder / place, FILES | {"README.md": b"words", ".git/config": b"x", ".cache/huggingface/x.npz": b"x"})
    found = find(spec(repository()), folder)
    assert contents(found.path) == FILES
    assert size_of(found.path) == sum(map(len, FILES.values()))
    assert found.note == (
        f"weights o/r: no licence in the card; taken from {folder / place}, not compared with anything: "
        "digests are kept"
    )
    assert contents(find(spec(repository()), folder / place).path) == FILES if place == "r" else True


def test_a_folder_is_held_against_digests_and_not_against_a_commit(spec, tmp_path):
    write(tmp_path / "d" / "r")
    one = '["config.toml"]'
    said = find(spec(repository(COMMIT, one, f'sha256 = "{SHA["config.toml"]}"\n')), tmp_path / "d").note
    assert str(said).endswith(f"taken from {tmp_path / 'd' / 'r'}")
    assert "not compared with anything" in str(find(spec(repository(COMMIT, one)), tmp_path / "d").note)


def test_a_copy_of_the_hubs_cache(spec, tmp_path):
    write_cache(tmp_path / "d")
    for revision in ("main", COMMIT):
        assert find(spec(repository(revision)), tmp_path / "d").facts["commit"] == COMMIT
    assert "can't be fetched" in complaint(spec(repository("d" * 40)), tmp_path / "d", MissingRequirementError)


def test_the_folder_comes_first_and_has_to_be_whole(spec, tmp_path):
    write_cache(hub.hub_cache())
    write(tmp_path / "d" / "r", {"config.toml": b"mine"})
    said = complaint(spec(repository()), tmp_path / "d", MissingRequirementError)
    assert f"{tmp_path / 'd' / 'r'} holds no pytorch_model.bin, which the card names" in said
    assert find(spec(repository("main", '["config.toml"]')), tmp_path / "d").path.read_bytes() == b"mine"
    write(tmp_path / "other")
    assert find(spec(repository()), tmp_path / "other").facts["commit"] == COMMIT  # nothing of o/r there


def test_paths_and_wheels_from_the_folder(spec, tmp_path):
    write(tmp_path / "d", {"w/seg.bin": b"1", "p/x.bin": b"2"})
    sha = {number: hashlib.sha256(str(number).encode()).hexdigest() for number in (1, 2)}
    found = find(spec('path = "w/seg.bin"\n'), tmp_path / "d")
    assert (found.path, found.digest) == (tmp_path / "d" / "w" / "seg.bin", sha[1])
    assert find(spec('path = "w"\n'), tmp_path / "d").facts == {"sha256": {"seg.bin": sha[1]}}
    wheel = 'wheel = "no-such-wheel==1"\nmember = "p/x.bin"\nsha256 = '
    assert find(spec(f'{wheel}"{sha[2]}"\n'), tmp_path / "d").path.read_bytes() == b"2"
    assert f"{tmp_path / 'd' / 'p' / 'x.bin'} has SHA-256 {sha[2]}, the card says" in complaint(
        spec(f'{wheel}"{sha[1]}"\n'), tmp_path / "d"
    )
    said = complaint(spec('path = "gone.bin"\n'), tmp_path / "d", MissingRequirementError)
    assert f"(nor gone.bin in {tmp_path / 'd'}); say --weights DIR if DIR has it" in said


def test_no_folder_at_all(spec, tmp_path):
    with pytest.raises(InputError, match=r"--weights .*/gone: no such folder"):
        prepare(spec(repository()), tmp_path / "gone")


# --- damage, and reading once


def test_damage_in_the_cache_is_seen(spec):
    snapshot = write_cache(hub.hub_cache())
    blob = (snapshot / "pytorch_model.bin").resolve()
    blob.write_bytes(b"v" + b"w" * 999)
    assert f"remove {blob} and the same command fetches it again" in complaint(spec(repository(COMMIT, NEEDED)))


def test_files_are_read_once_unless_they_change(spec, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(weights, "sha256_of", lambda path: read.append(path) or "0" * 64)
    monkeypatch.setattr(weights, "_SETTLED", -1.0)
    path = write(tmp_path / "d", {"seg.bin": b"1"}) / "seg.bin"
    for _ in range(2):
        find(spec('path = "seg.bin"\n'), tmp_path / "d")
    assert len(read) == 1
    time.sleep(0.02)
    path.write_bytes(b"2")
    find(spec('path = "seg.bin"\n'), tmp_path / "d")
    assert len(read) == 2
    monkeypatch.setattr(weights, "_SETTLED", 60.0)  # too new to be sure
    find(spec('path = "seg.bin"\n'), tmp_path / "d")
    assert len(read) == 3


def test_where_links_can_not_be_made_the_folder_itself_is_given(spec, monkeypatch):
    snapshot = write_cache(hub.hub_cache())

    def fail(*_: object, **__: object) -> None:
        raise OSError("a privilege is missing")

    monkeypatch.setattr(Path, "symlink_to", fail)
    assert find(spec(repository(COMMIT))).path == snapshot


# --- what results record


def test_results_record_source_commit_digests_and_licence(spec, monkeypatch):
    write_cache(hub.hub_cache())
    one = spec(repository(more='licence = "CC BY-NC 4.0"\ngated = true\n'))
    said = {"hub": "o/r", "revision": "main", "gated": True, "licence": "CC BY-NC 4.0"}
    assert one.facts["weights"] == {"seg": said}
    hub._fetched.cache_clear()
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    ready = prepare(one)
    assert ready.problem is None
    assert ready.spec.facts["weights"] == {"seg": said | {"commit": COMMIT, "sha256": SHA}}
    assert ready.identity["weights"] == {"seg": find(one).digest}
    assert ready.notes == (find(one).note,)


def test_a_local_path_is_recorded_by_its_last_name_alone(spec, tmp_path):
    write(tmp_path / "private", {"seg.bin": b"1"})
    ready = prepare(spec(f'path = "{tmp_path}/private/seg.bin"\nlicence = "CC BY-NC 4.0"\n'))
    assert ready.problem is None
    assert ready.notes == ("weights seg.bin: licence CC BY-NC 4.0",)
    assert str(tmp_path) not in str(ready.spec.facts)
    assert ready.spec.facts["weights"]["seg"]["path"] == "seg.bin"
