"""Sizes of systems from their cards alone: the adapter's code is imported, no system is built, nothing is fetched."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diarbench.cards import SystemSpec
from diarbench.errors import AdapterError, DiarbenchError, MissingRequirementError
from diarbench.execute.child import one_line
from diarbench.execute.loading import imported_adapter
from diarbench.fetch import nothing_fetched
from diarbench.files import size_of
from diarbench.measure.counts import build_networks, count_system, macs_of
from diarbench.measure.networks import Network
from diarbench.plan import find_adapter, missing_requirements
from diarbench.types import Complexity, Seconds
from diarbench.weights import find_weights


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found of one system."""

    name: str
    problem: str | None  # one line; None where it was counted
    size: Complexity | None = None
    # MACs by network on the length of audio that was asked for, and of the encoder among them.
    macs: Mapping[str, int] = field(default_factory=dict)
    encoder_macs: int | None = None


def count_cards(specs: Sequence[SystemSpec], seconds: Seconds | None = None) -> list[Counted]:
    """Count the networks of each system, without weights and without audio. One that can't be counted leaves the rest.

    `seconds` is a length of audio to count MACs on, besides one second and each network's own window. Raises
    MissingRequirementError without torch.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingRequirementError("counting needs torch: pip install 'diarbench[systems]'")
    return [_count(spec, seconds) for spec in specs]


def _count(spec: SystemSpec, seconds: Seconds | None) -> Counted:
    try:
        adapter = find_adapter(spec)
        if missing := missing_requirements(spec.card.requires):
            raise MissingRequirementError(f"not installed: pip install {' '.join(map(repr, missing))}")
        # What a stranger's code prints is no part of the answer.
        with (
            contextlib.redirect_stdout(sys.stderr),
            imported_adapter(adapter.file, adapter.module, adapter.attribute) as adapter_class,
        ):
            networks = build_networks(adapter_class, spec.options)
            if networks is None:
                raise AdapterError(
                    f"its adapter {adapter.attribute} has no class method networks(**options): add one that gives its "
                    'networks without weights (docs/adding-a-system.md, "Counting")'
                )
            size = count_system(None, networks, _weight_bytes(spec))
            return _with_length(Counted(spec.name, None, size), networks, seconds)
    except DiarbenchError as error:
        return Counted(spec.name, str(error))
    except Exception as error:  # noqa: BLE001  a stranger's module may raise anything while it is imported
        return Counted(spec.name, f"its adapter can't be imported: {one_line(error, adapter.file)}")


def _with_length(counted: Counted, networks: Mapping[str, Network], seconds: Seconds | None) -> Counted:
    if seconds is None:
        return counted
    found = {stage: macs_of(network, seconds, stage) for stage, network in networks.items()}
    encoder = next((macs.encoder for macs in found.values() if macs.encoder is not None), None)
    return Counted(counted.name, None, counted.size, {stage: macs.total for stage, macs in found.items()}, encoder)


def _weight_bytes(spec: SystemSpec) -> int | None:
    """Bytes of the card's weight files, if all of them are here."""
    if not spec.card.weights:
        return None
    paths: list[Path] = []
    with nothing_fetched():
        for name, source in spec.card.weights.items():
            try:
                paths.append(find_weights(spec, name, source).path)
            except DiarbenchError:
                return None
    return sum(size_of(path) for path in paths)
