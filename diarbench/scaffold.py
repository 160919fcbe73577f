"""Start a system: a card and an adapter that already work, written whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from diarbench.cards import check_name
from diarbench.errors import InputError, StoreError
from diarbench.files import write_whole
from diarbench.registry import shown

_ADAPTER = '''"""__NAME__: put your system here. This one says that somebody speaks wherever it is loud."""

import numpy as np


class System:
    """Options of the card arrive as keyword arguments."""

    def __init__(self, *, threshold: float = 0.01) -> None:
        self.threshold = threshold

    def diarize(self, audio):
        """Turns as (start, end, speaker), in seconds. audio.mono() is float32 in [-1, 1], audio.sample_rate in Hz."""
        frame = audio.sample_rate // 10
        frames = audio.mono()[: len(audio.mono()) // frame * frame].reshape(-1, frame)
        loud = np.sqrt((frames**2).mean(axis=1)) > self.threshold
        return [(i / 10, (i + 1) / 10, "speaker") for i in np.flatnonzero(loud)]
'''

_CARD = """title    = "__NAME__"
adapter  = "./adapter.py:System"
requires = ["numpy"]                # what has to be installed, as pip writes it

[options]
threshold = 0.01
"""


def write_system(name: str, systems: Path, taken: Mapping[str, Path] = {}) -> tuple[Path, Path]:
    """`systems/NAME/NAME.toml` and `systems/NAME/adapter.py`, both or neither; returns both paths.

    `taken` has the cards that there are, by name. Raises CardError for a name that can't be one, InputError for one
    that is taken or where the folder is already there, StoreError where it can't be written.
    """
    folder = systems / name
    card, adapter = folder / f"{name}.toml", folder / "adapter.py"
    check_name(name, card)
    if name in taken:
        raise InputError(f"the name {name!r} is taken by {shown(taken[name])}; choose another name")
    if folder.exists():
        raise InputError(f"{folder}: already there; choose another name, or remove it first")
    try:
        systems.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=systems))
        try:
            write_whole(temporary / adapter.name, _ADAPTER.replace("__NAME__", name))
            write_whole(temporary / card.name, _CARD.replace("__NAME__", name))
            temporary.chmod(0o755)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{folder}: can't be written ({error.strerror})") from error
    return card, adapter
