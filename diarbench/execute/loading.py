"""An adapter from an order: its code imported, its class built, threads and random numbers as they were asked for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import random
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from diarbench.errors import AdapterError, did_you_mean
from diarbench.execute.messages import Order
from diarbench.types import Audio, Seconds

_UNNAMED = "diarbench_adapter"  # the module of an adapter's file that can't be imported by its own name


class Adapter(Protocol):
    """A system as the worker sees it; what it may have besides is looked up by name."""

    def diarize(self, audio: Audio) -> object:
        """Whatever `Turns.from_output` takes."""


class Loaded(NamedTuple):
    """A system that is built, and how long that took."""

    adapter: Any
    importing: Seconds
    building: Seconds


def load_adapter(order: Order) -> Loaded:
    """The system of an order. Raises AdapterError, and whatever the adapter's own code raises."""
    random.seed(0)
    np.random.seed(0)
    before = time.perf_counter()
    adapter_class = import_adapter(order)
    imported = time.perf_counter()
    set_threads(order.threads)
    _seed_torch()
    adapter = _build(adapter_class, order)
    built = time.perf_counter()
    set_threads(order.threads)
    return Loaded(adapter, imported - before, built - imported)


def set_threads(threads: int) -> None:
    """Some packages set torch's threads when they are imported or built; the run's own number holds."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


class Randomness:
    """The global random generators as they were once the system was built.

    Each call starts from there, so that a result depends neither on the recordings before it nor on where a run that
    was stopped went on. A seed that the adapter set itself, while it was built, stays.
    """

    def __init__(self) -> None:
        _seed_torch()
        self._python, self._numpy = random.getstate(), np.random.get_state()
        torch = sys.modules.get("torch")
        self._torch = torch.get_rng_state() if torch is not None else None
        has_gpu = torch is not None and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state_all() if torch is not None and has_gpu else None

    def restore(self) -> None:
        """Set them back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch = sys.modules.get("torch")
        if torch is None:
            return
        _seed_torch()
        if self._torch is None or torch.cuda.is_initialized() or torch.backends.mps.is_available():
            torch.manual_seed(torch.initial_seed())  # generators that were not there yet began so
        # Else there are none, and torch would take half a millisecond to note the seed, once more, for when there are.
        if self._torch is not None:
            torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


def _seed_torch() -> None:
    """Seed torch as the other generators, unless the adapter did: by itself it takes 53 random bits."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.initial_seed() >= 1 << 32:
        torch.manual_seed(0)


def _build(adapter_class: type, order: Order) -> Any:
    """The adapter: the card's options as keyword arguments, and what the harness knows where it is asked for."""
    offered = {"device": order.device, "weights": dict(order.weights), "files": dict(order.files)}
    return adapter_class(**arguments_of(adapter_class, order.options, offered))


def arguments_of(adapter_class: type, options: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter is built with: the card's options, and of what the harness offers that which it takes.

    Raises AdapterError where the card names an option that the adapter does not take, or lacks one it needs.
    """
    signature = inspect.signature(adapter_class)
    taken = {name for name, p in signature.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    arguments = dict(options) | {name: value for name, value in offered.items() if name in taken}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = sorted(taken - set(offered))
        unknown = next((name for name in arguments if f"unexpected keyword argument {name!r}" in str(error)), None)
        tail = did_you_mean(unknown, known) if unknown is not None else ""
        tail = tail or f"; it takes {', '.join(known) or 'none'}"
        raise AdapterError(
            f"{adapter_class.__name__} can't be built from the card's [options]: {error}{tail}"
        ) from error
    return arguments


def import_adapter(order: Order) -> type:
    """The class that an order names; its code is run. Raises AdapterError, and whatever that code raises."""
    return _find_class(order.adapter_file, order.adapter_module, order.attribute)


def source_of(file: Path | None, module: str | None) -> Path | None:
    """The file that an adapter's class is in, for telling where it failed; None of a module that isn't imported."""
    found = getattr(sys.modules.get(module or ""), "__file__", None)
    return file or (Path(found) if found is not None else None)


@contextlib.contextmanager
def imported_adapter(file: Path | None, module: str | None, attribute: str) -> Iterator[type]:
    """The class of an adapter for a look at it, in a process that looks at others too: what was imported from the
    file's folder is forgotten afterwards, since the next family may have modules of the same names.

    Raises as `import_adapter`.
    """
    path, known = list(sys.path), set(sys.modules)
    try:
        yield _find_class(file, module, attribute)
    finally:
        if file is not None:
            sys.path[:] = path
            for name in [name for name in sys.modules if name not in known or name == _UNNAMED]:
                if file.parent in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
                    del sys.modules[name]


def _find_class(file: Path | None, module: str | None, attribute: str) -> type:
    if file is not None:
        found_in = _import_file(file)
    else:
        assert module is not None
        found_in = importlib.import_module(module)
    found = getattr(found_in, attribute, None)
    if not isinstance(found, type) or not callable(getattr(found, "diarize", None)):
        raise AdapterError(f"{found_in.__file__} has no class {attribute!r} with a method diarize(audio)")
    return found


def _import_file(file: Path) -> ModuleType:
    """The module in a file. Its folder is importable, as for a script: families may keep helpers beside it."""
    folder = str(file.parent)
    sys.path.append(folder)
    sys.path_importer_cache[folder] = importlib.machinery.FileFinder(
        folder,
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_FromSource, importlib.machinery.SOURCE_SUFFIXES),
    )
    # By its own name, if that leads there: then processes that the adapter starts find it too.
    if file.stem.isidentifier() and file.stem not in sys.modules:
        found = importlib.util.find_spec(file.stem)
        if found is not None and found.origin is not None and Path(found.origin) == file:
            return importlib.import_module(file.stem)
    spec = importlib.util.spec_from_loader(_UNNAMED, _FromSource(_UNNAMED, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_UNNAMED] = module
    spec.loader.exec_module(module)
    return module


class _FromSource(importlib.machinery.SourceFileLoader):
    """Never from a .pyc: one that was made within the same second from as many bytes of other code passes for new."""

    def get_code(self, fullname: str) -> Any:
        """The code of the source as it is now."""
        return self.source_to_code(self.get_data(self.path), self.path)
