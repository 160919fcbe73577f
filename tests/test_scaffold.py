from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from diarbench.cards import SystemCard, read_card
from diarbench.errors import CardError, InputError, StoreError
from diarbench.registry import Registry
from diarbench.scaffold import write_system
from diarbench.types import Audio, Recording, Turns


def test_what_is_written_works(tmp_path):
    card_path, adapter_path = write_system("my-own", tmp_path / "systems")
    assert sorted(os.listdir(tmp_path / "systems")) == ["my-own"]
    card = read_card(card_path, SystemCard)
    assert Registry((tmp_path,)).choose_systems(["my-own"])[0].card == card
    spec = importlib.util.spec_from_file_location("written", adapter_path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    system = getattr(module, card.adapter.split(":")[1])(**card.options)
    samples = np.zeros((2, 3 * 16000 + 7), dtype=np.float32)
    samples[:, 16000:32000] = 0.1
    samples.flags.writeable = False
    turns = Turns.from_output(system.diarize(Audio(Recording("r", None, 3.0, 16000), samples)))
    assert (turns.starts[0], turns.ends[-1]) == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize("name", ["../x", "a/b", "My System", "", ".", "x" * 101])
def test_names_that_can_not_be(tmp_path, name):
    with pytest.raises(CardError, match="can't be one: use lower-case letters"):
        write_system(name, tmp_path / "systems")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [Path.mkdir, Path.touch])
def test_nothing_is_overwritten(tmp_path, made):
    made(tmp_path / "mine")
    with pytest.raises(InputError, match="mine: already there; choose another name"):
        write_system("mine", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["mine"]


def test_both_files_or_neither(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def fail_the_second_time(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", fail_the_second_time)
    with pytest.raises(StoreError, match="no space left on the disk"):
        write_system("mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "systems").write_text("a file")
    with pytest.raises(StoreError, match="can't be written"):
        write_system("mine", tmp_path / "systems")
