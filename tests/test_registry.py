from __future__ import annotations

import sys
from pathlib import Path

import pytest

from diarbench.cards import DatasetCard, SystemCard, read_card
from diarbench.errors import CardError, NotFoundError
from diarbench.registry import Registry, shipped

SYSTEM = 'title = "{}"\nadapter = "./adapter.py:System"\n'
DATASET = 'title = "{}"\nuem = "whole-file"\nlicence = "CC0"\nget = "here"\n[folder]\n'
REPORT = 'title = "{}"\nsystems = ["a"]\ndatasets = ["b"]\n'


@pytest.fixture
def registry(cards) -> Registry:
    cards.path.mkdir()
    return Registry((cards.path,))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """A working folder without cards."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def names(specs) -> list[str]:
    return [spec.name for spec in specs]


# --- choosing


@pytest.fixture
def family(cards, registry) -> Registry:
    for name in ("fam/one", "fam/two", "other/three", "alone"):
        cards.system(name, SYSTEM.format(name))
    cards.system("fam/swept", SYSTEM.format("swept") + "[sweep]\nwindow = [8, 16]\nbits = [1, 2]\n")
    cards.dataset("data-a", DATASET.format("A"))
    cards.dataset("data-b", DATASET.format("B"))
    cards.report("board", REPORT.format("Board"))
    return registry


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["one"], ["one"]),
        (["two", "one"], ["two", "one"]),
        (["one", "one", "o*"], ["one"]),
        (["t*"], ["three", "two"]),
        (["swept@window=8,bits=2"], ["swept@window=8,bits=2"]),
        (["swept@window=8*"], ["swept@window=8,bits=1", "swept@window=8,bits=2"]),
        (["swept"], [f"swept@window={w},bits={b}" for w in (8, 16) for b in (1, 2)]),
        (["*n*"], ["alone", "one"]),
    ],
)
def test_systems_by_name_variant_and_pattern(family, wanted, chosen):
    assert names(family.choose_systems(wanted)) == chosen


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("onne", "no system 'onne'; did you mean one"),
        ("x?", "no system 'x?'; known: alone, one, swept, three, two"),
        ("swept@window=9,bits=1", "no system 'swept@window=9,bits=1'; did you mean swept@window="),
        ("one@window=8", "no system 'one@window=8'"),
        ("", "no system ''; known: "),
        ("@", "no system '@'"),
        ("../one", "no system '../one'"),
    ],
)
def test_unknown_systems(family, wanted, says):
    with pytest.raises(NotFoundError) as error:
        family.choose_systems([wanted])
    assert str(error.value).startswith(says)


def test_datasets_and_reports_by_name_and_pattern(family):
    assert list(family.choose_datasets(["data-b", "data-*"])) == ["data-b", "data-a"]
    assert family.choose_report("board")[1].title == "Board"
    with pytest.raises(NotFoundError, match="no dataset 'dota-a'; did you mean data-a"):
        family.choose_datasets(["dota-a"])
    with pytest.raises(NotFoundError, match="no report 'bord'; did you mean board"):
        family.choose_report("bord")


def test_cards_by_path(family, cards, tmp_path):
    one = cards.path / "systems" / "fam" / "one.toml"
    (spec,) = family.choose_systems([str(one), "one"])
    assert spec.folder == one.parent.resolve()
    stray = tmp_path / "stray.toml"
    stray.write_text(SYSTEM.format("stray"))
    assert names(family.choose_systems([str(stray)])) == ["stray"]
    stray.write_text(DATASET.format("stray"))
    assert family.choose_datasets([str(stray)])["stray"][0] == stray
    stray.write_text(REPORT.format("stray"))
    assert family.choose_report(str(stray))[0] == "stray"
    with pytest.raises(CardError, match=r"gone\.toml: can't be read"):
        family.choose_systems([str(tmp_path / "gone.toml")])


def test_two_cards_of_one_name_are_never_one(family, cards, tmp_path):
    twin = tmp_path / "twin"
    for folder, kind in ((twin, "one"), (twin, "data-a")):
        folder.mkdir(exist_ok=True)
        (folder / f"{kind}.toml").write_text((SYSTEM if kind == "one" else DATASET).format("twin"))
    with pytest.raises(CardError, match="two cards named 'one' are asked for"):
        family.choose_systems(["one", str(twin / "one.toml")])
    with pytest.raises(CardError, match="two cards named 'data-a' are asked for"):
        family.choose_datasets([str(twin / "data-a.toml"), "data-*"])


# --- finding


def test_the_earlier_root_wins(cards, tmp_path):
    later = type(cards)(tmp_path / "later")
    for root, title in ((cards, "mine"), (later, "theirs")):
        root.system("same", SYSTEM.format(title))
        root.dataset("same", DATASET.format(title))
        root.report("same", REPORT.format(title))
    later.system("fam/only-there", SYSTEM.format("there"))
    both = Registry((cards.path, later.path))
    assert both.choose_systems(["same"])[0].card.title == "mine"
    assert both.choose_datasets(["same"])["same"][1].title == "mine"
    assert both.choose_report("same")[1].title == "mine"
    assert list(both.systems) == ["only-there", "same"]


def test_systems_lie_at_most_one_folder_deep_and_datasets_flat(cards, registry):
    cards.system("a")
    cards.system("family/b")
    cards.system("family/deep/c")
    cards.dataset("d", DATASET.format("d"))
    cards.dataset("folder/e", DATASET.format("e"))
    assert list(registry.systems) == ["a", "b"]
    assert list(registry.datasets) == ["d"]


def test_one_name_twice_in_a_root(cards, registry):
    cards.system("fam/one")
    cards.system("other/one")
    with pytest.raises(CardError, match=r"other/one\.toml: another card has that name: .*fam/one\.toml"):
        _ = registry.systems


def test_a_broken_card_hides_no_other(cards, registry):
    cards.system("good")
    cards.system("broken", "title = \n")
    cards.system("Bad Name")
    assert names(registry.choose_systems(["good"])) == ["good"]
    for wanted in ("broken", "Bad Name", "*"):
        with pytest.raises(CardError):
            registry.choose_systems([wanted])


def test_no_folders_no_cards(registry):
    assert (registry.systems, registry.datasets, registry.reports) == ({}, {}, {})


def test_listing_reads_no_card(cards, registry):
    cards.system("broken", "\x00")
    assert list(registry.systems) == ["broken"]


# --- the standard order: given, here, plug-ins, shipped


def test_the_standard_order(cards, tmp_path, elsewhere):
    cards.system("same", SYSTEM.format("given"))
    (elsewhere / "systems").mkdir()
    (elsewhere / "systems" / "same.toml").write_text(SYSTEM.format("here"))
    assert Registry.standard([cards.path]).choose_systems(["same"])[0].card.title == "given"
    assert Registry.standard().choose_systems(["same"])[0].card.title == "here"
    assert Registry.standard().roots[-1] == shipped()
    assert "sample" in Registry.standard().datasets


def test_a_working_folder_that_is_gone(elsewhere):
    elsewhere.rmdir()
    assert "sample" in Registry.standard().datasets


@pytest.mark.parametrize("made", [True, False])
def test_a_given_folder_must_hold_cards(tmp_path, made):
    if made:
        (tmp_path / "x").mkdir()
    with pytest.raises(CardError, match="x: holds none of the folders systems/, datasets/ and reports/"):
        Registry.standard([tmp_path / "x"])


def distribution(site: Path, value: str, monkeypatch: pytest.MonkeyPatch, package: str = "probe_plugin") -> Path:
    """A distribution with an entry point, as pip would leave it; importing its package raises."""
    info = site / "probe_dist-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[diarbench.cards]\nprobe = {value}\n")
    folder = site / package
    (folder / "systems").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('a plug-in was imported')\n")
    (folder / "systems" / "from-afar.toml").write_text(SYSTEM.format("from afar"))
    monkeypatch.syspath_prepend(str(site))
    return folder


def test_a_plugin_is_found_and_not_imported(tmp_path, elsewhere, monkeypatch):
    folder = distribution(tmp_path / "site", "probe_plugin", monkeypatch)
    (spec,) = Registry.standard().choose_systems(["from-afar"])
    assert spec.folder == (folder / "systems").resolve()
    assert "probe_plugin" not in sys.modules


def test_a_plugin_may_keep_its_cards_in_a_folder_inside(tmp_path, elsewhere, monkeypatch):
    folder = distribution(tmp_path / "site", "probe_plugin.cards", monkeypatch)
    with pytest.raises(
        CardError, match=r"'probe' points to 'probe_plugin\.cards', but .*cards holds none of the folders"
    ):
        Registry.standard()
    (folder / "systems").rename(folder / "old")
    (folder / "cards").mkdir()
    (folder / "old").rename(folder / "cards" / "systems")
    assert "from-afar" in Registry.standard().systems
    assert not [name for name in sys.modules if name.startswith("probe_plugin")]


@pytest.mark.parametrize("value", ["no_such_package", "sys", "probe_plugin:thing", "no_such_package.cards"])
def test_a_plugin_that_leads_nowhere(tmp_path, elsewhere, monkeypatch, value):
    distribution(tmp_path / "site", value, monkeypatch)
    with pytest.raises(CardError) as error:
        Registry.standard()
    assert "the plug-in 'probe' points to" in str(error.value)
    assert "reinstall or remove the distribution probe-dist" in str(error.value)


def test_a_card_here_shadows_a_plugin(tmp_path, elsewhere, monkeypatch):
    distribution(tmp_path / "site", "probe_plugin", monkeypatch)
    (elsewhere / "systems").mkdir()
    (elsewhere / "systems" / "from-afar.toml").write_text(SYSTEM.format("mine"))
    assert Registry.standard().choose_systems(["from-afar"])[0].card.title == "mine"


def test_every_shipped_card_can_be_read():
    found = Registry((shipped(),))
    assert found.choose_systems(found.systems)
    assert found.choose_datasets(found.datasets)
    assert [found.choose_report(name) for name in found.reports]


def test_parts_that_shipped_systems_were_trained_on_are_of_corpora_that_have_a_card():
    found = Registry((shipped(),))
    corpora = {read_card(path, DatasetCard).corpus for path in found.datasets.values()}
    named = set()
    for path in found.systems.values():
        card = read_card(path, SystemCard)
        named |= {part.split("/")[0] for part in (*card.trained_parts, *card.may_have_seen)}
        assert not set(card.trained_parts) & set(card.may_have_seen)
    assert named
    assert named <= corpora
