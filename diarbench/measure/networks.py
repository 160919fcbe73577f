"""What an adapter may tell of its networks, so that they can be counted and timed without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diarbench.types import Seconds

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Network:
    """One network of a system, unquantized, with random weights.

    An adapter returns these from `networks`, a class method that takes the card's options and is called under
    `torch.device("meta")` for counting, and under the real device for timing an encoder without its weights:

        @classmethod
        def networks(cls, **options) -> Mapping[str, Network]:
            def inputs(batch, seconds):
                return (torch.randn(batch, 1, round(16000 * seconds)),)

            return {"segmentation": Network(Model(), inputs)}

    The names are those of `modules()`, which returns the same networks as they really run.
    """

    module: nn.Module
    inputs: Callable[[int, Seconds], tuple[Any, ...]]  # (batch, seconds of audio) -> what `module` is called with
    window: Seconds | None = None  # of audio that it takes at a time in this system; None: any length
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # part -> paths of submodules: {"CNN": ["cnn"]}
    # The path of the submodule that the pruning papers count, "" for the whole; it takes the same inputs. None: this
    # network holds no encoder. One network of a system has it.
    encoder: str | None = None
