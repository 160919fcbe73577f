"""Weight files into modules, strictly: a name or shape that does not fit is an error, never a warning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from diarbench.errors import MissingRequirementError

Module = TypeVar("Module", bound=nn.Module)


def load_exactly(
    module: Module, state: Mapping[str, Tensor], path: Path | str, names: Mapping[str, str] | None = None
) -> Module:
    """The module with these weights, which came from `path`, ready for inference.

    `names` says how the file calls each entry of the module's own state; without it, just as the module does. A
    module that was built on the `meta` device takes the tensors over instead of copying them, in its own precision.

    Raises MissingRequirementError unless names and shapes are exactly the module's own: one line, which tells what is
    missing, unexpected, or of another shape.
    """
    wanted = module.state_dict()
    names = {name: name for name in wanted} if names is None else names
    if problem := _problem(wanted, state, names):
        raise MissingRequirementError(f"{path}: not the weights of {type(module).__name__}: {problem}")
    fitting = {ours: state[names[ours]].to(tensor.dtype) for ours, tensor in wanted.items()}
    module.load_state_dict(fitting, strict=True, assign=any(tensor.is_meta for tensor in wanted.values()))
    return module.eval().requires_grad_(False)


def _problem(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Mapping[str, str]) -> str:
    """What does not fit, in one line; nothing where all fits."""
    theirs = {names[ours]: tensor for ours, tensor in wanted.items()}
    shapes = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in theirs.items()
        if name in state and state[name].shape != tensor.shape
    ]
    lists = {
        "missing": [name for name in theirs if name not in state],
        "unexpected": [name for name in state if name not in theirs],
        "of another shape": shapes,
    }
    return "; ".join(f"{what} {_first(found)}" for what, found in lists.items() if found)


def _first(found: Iterable[str]) -> str:
    """The first few of many."""
    first, *rest = found
    shown = ", ".join([first, *rest[:2]])
    return shown + (f" and {len(rest) - 2} more" if len(rest) > 2 else "")
