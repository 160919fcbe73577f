"""Weight files into modules, strictly: a name or shape that does not fit is an error, never a warning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from diarbench.errors import MissingRequirementError

Module = TypeVar("Module", bound=nn.Module)


def load_exactly(module: Module, state: Mapping[str, Tensor], path: Path) -> Module:
    """The module with these weights, which came from `path`, ready for inference.

    Raises MissingRequirementError unless names and shapes are exactly the module's own.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise MissingRequirementError(f"{path}: not the weights of {type(module).__name__}: {problem}") from error
    return module.eval().requires_grad_(False)
