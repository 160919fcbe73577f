"""Hard-concrete gates (Louizos et al., 2018, https://arxiv.org/abs/1712.01312) on the parts of a WavLM.

    u ~ U(1e-6, 1 - 1e-6)
    s = sigmoid((log u - log(1 - u) + log α) / β)
    z = clamp(s (r - l) + l, 0, 1)                with β = 2/3, l = -0.1, r = 1.1

A gate z multiplies what a channel, head or unit hands on. It is 0 with a probability that has a closed form, so the
expected size of the model has one too (`sizes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from diarbench.errors import InputError, did_you_mean
from diarbench.nn.structures import Structure

# As Louizos et al., section 4.1, and as every pruning of speech models since, the pruning paper's among them.
BETA = 2 / 3
LOW, HIGH = -0.1, 1.1
_NOISE = (1e-6, 1 - 1e-6)  # so that its logit is finite
_SHIFT = BETA * math.log(-LOW / HIGH)  # -1.5986: log α at which a gate is 0 as often as not
_SPREAD = 0.01  # of log α when it starts: the reference's
RULES = ("clamp", "reference")


def probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) of each gate: sigmoid(log α - β log(-l / r)) (Louizos et al., equation 12).

    >>> round(probability(torch.tensor(0.0)).item(), 4)
    0.8318
    """
    return torch.sigmoid(log_alpha - _SHIFT)


def sample(log_alpha: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """One z for each gate, which gradients reach wherever it is neither 0 nor 1.

    Without a generator the noise is torch's own, so `torch.manual_seed` decides it.
    """
    device = generator.device if generator is not None else log_alpha.device
    noise = torch.empty(log_alpha.shape, dtype=log_alpha.dtype, device=device)
    # Below float64, 1 - 1e-6 may round up, but no further than 1 - 9.5e-7 in float32.
    noise = noise.uniform_(*_NOISE, generator=generator).to(log_alpha.device)
    soft = torch.sigmoid((torch.logit(noise) + log_alpha) / BETA)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def deterministic(log_alpha: Tensor, rule: str = "reference", *, least: int = 0) -> Tensor:
    """One mask value for each gate of a group (n,), without noise; at least `least` of them are not 0.

    "reference" is the rule of DPHuBERT and DiariZen: of n gates the round(n - expected number) with the smallest log α
    are 0, and the others sigmoid(0.8 log α / β), which is below 1. As many survive as was expected.

    "clamp" is Louizos et al., equation 13: clamp(sigmoid(log α)(r - l) + l, 0, 1), which is 0 where log α is below
    -2.40. While gates are undecided, far more or far fewer survive than was expected.

    Raises InputError for another rule.
    """
    if rule == "clamp":
        count = int((_clamped(log_alpha) > 0).sum())
    else:
        count = len(log_alpha) - round(len(log_alpha) - probability(log_alpha.detach().double()).sum().item())
    return survivors(log_alpha, max(count, least), rule)


def survivors(log_alpha: Tensor, count: int, rule: str = "reference") -> Tensor:
    """Masks (n,) of a group of which exactly `count` gates survive, those with the largest log α.

    Their values follow `rule`; one that "clamp" would set to 0 gets its softened value. Raises InputError for another
    rule.
    """
    if rule not in RULES:
        raise InputError(f"{rule} is no rule for masks{did_you_mean(rule, RULES)}")
    soft = torch.sigmoid(0.8 * log_alpha / BETA)
    if rule == "clamp":
        hard = _clamped(log_alpha)
        soft = torch.where(hard > 0, hard, soft)
    kept = torch.zeros_like(log_alpha, dtype=torch.bool)
    kept[log_alpha.detach().argsort(descending=True, stable=True)[:count]] = True
    return torch.where(kept, soft, torch.zeros_like(soft))


def _clamped(log_alpha: Tensor) -> Tensor:
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class PerGate:
    """One number for each gate of a WavLM: its mask, the probability that it is not 0, or its log α.

    Whole attentions and feed-forwards have a gate each as well, 1 where those aren't pruned as a whole. A head or unit
    is there where both its own gate and its module's are.
    """

    convolutions: tuple[Tensor, ...]  # per convolution, (its channels,)
    heads: tuple[Tensor, ...]  # per layer, (heads that the layer still has,)
    feed_forward: tuple[Tensor, ...]  # per layer, (units that the layer still has,)
    attention_layers: Tensor  # (layers,)
    feed_forward_layers: Tensor  # (layers,)

    @classmethod
    def ones(cls, structure: Structure, device: torch.device | str = "cpu") -> PerGate:
        """1 for each gate that this structure has."""

        def each(sizes: Sequence[int]) -> tuple[Tensor, ...]:
            return tuple(torch.ones(size, device=device) for size in sizes)

        return cls(*map(each, _group_sizes(structure)), *each([structure.layers] * 2))  # type: ignore[arg-type]

    def map(self, function: Callable[[Tensor], Tensor]) -> PerGate:
        """The same with a function of each group's tensor."""
        return PerGate(
            tuple(map(function, self.convolutions)),
            tuple(map(function, self.heads)),
            tuple(map(function, self.feed_forward)),
            function(self.attention_layers),
            function(self.feed_forward_layers),
        )

    def check(self, structure: Structure) -> None:
        """Raises InputError where the groups are not those of the structure."""
        sizes = tuple([len(group) for group in groups] for groups in (self.convolutions, self.heads, self.feed_forward))
        layers = [len(self.attention_layers), len(self.feed_forward_layers)]
        wanted = _group_sizes(structure)
        if sizes != wanted or layers != [structure.layers] * 2:
            raise InputError(f"gates for {sizes} channels, heads and units don't fit a WavLM that has {wanted}")


GATED = ("convolutions", "heads", "feed_forward")  # what the papers prune
_GROUPS = tuple(field.name for field in fields(PerGate))


@dataclass(frozen=True, slots=True)
class KeepAtStart:
    """With which keep probability m gates start: log α is drawn from N(log(m / (1 - m)), 0.01²).

    The defaults are the reference's (and DPHuBERT's). m is the keep probability of the concrete distribution before it
    is stretched; P(z ≠ 0) is higher: 0.998 for 0.99, 0.832 for 0.5. With these, a tenth of the model is expected
    to be gone before training starts. Raises InputError where a probability is not between 0 and 1.
    """

    convolutions: float = 0.99
    heads: float = 0.99
    feed_forward: float = 0.5
    attention_layers: float = 0.99
    feed_forward_layers: float = 0.99

    def __post_init__(self) -> None:
        for name in _GROUPS:
            if not 0 < (value := getattr(self, name)) < 1:
                raise InputError(f"the keep probability of {name} is above 0 and below 1, not {value}")


OPEN = KeepAtStart(*[0.999] * 5)  # expected sparsity starts at 0, to three digits; then learning is slower at first


class WavLMGates(nn.Module):
    """The gates of a WavLM, log α as parameters; `gated` names the kinds that are learned, the others stay 1.

    `generator` (on the CPU) decides how they start. Raises InputError for an unknown kind.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        gated: Sequence[str] = GATED,
        start: KeepAtStart | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.structure = structure
        for kind in gated:
            if kind not in _GROUPS:
                raise InputError(f"{kind} is nothing that can be gated{did_you_mean(kind, _GROUPS)}")
        if not gated:
            raise InputError(f"no gates: name at least one of {', '.join(_GROUPS)}")
        start = start or KeepAtStart()
        convolutions, heads, units = _group_sizes(structure)
        layers = [structure.layers]
        self.log_alpha = nn.ModuleDict()
        for kind, sizes in zip(_GROUPS, (convolutions, heads, units, layers, layers), strict=True):
            if kind in gated:
                keep = getattr(start, kind)
                mean = math.log(keep / (1 - keep))
                drawn = [torch.empty(size).normal_(mean, _SPREAD, generator=generator) for size in sizes]
                self.log_alpha[kind] = nn.ParameterList(drawn)

    def probabilities(self) -> PerGate:
        """P(z ≠ 0) of each gate."""
        return self._each(lambda log_alpha, _: probability(log_alpha))

    def sample(self, *, generator: torch.Generator | None = None) -> PerGate:
        """One z for each gate; those of a group, and then the groups, are drawn in a fixed order."""
        return self._each(lambda log_alpha, _: sample(log_alpha, generator=generator))

    def deterministic(self, rule: str = "reference") -> PerGate:
        """A mask value for each gate, as `deterministic` says; each convolution keeps at least one channel."""
        return self._each(lambda log_alpha, least: deterministic(log_alpha, rule, least=least))

    def logits(self) -> PerGate:
        """log α of each gate, infinite where nothing is learned; without gradient."""
        return self._each(lambda log_alpha, _: log_alpha.detach(), fixed=math.inf)

    def _each(self, function: Callable[[Tensor, int], Tensor], *, fixed: float = 1.0) -> PerGate:
        ones = PerGate.ones(self.structure, next(self.parameters()).device)

        def group(kind: str) -> tuple[Tensor, ...]:
            if kind in self.log_alpha:
                least = 1 if kind == "convolutions" else 0
                return tuple(function(log_alpha, least) for log_alpha in self.log_alpha[kind].parameters())
            unlearned = getattr(ones, kind)
            return tuple(tensor * fixed for tensor in (unlearned if isinstance(unlearned, tuple) else (unlearned,)))

        convolutions, heads, units, attention, feed_forward = map(group, _GROUPS)
        return PerGate(convolutions, heads, units, attention[0], feed_forward[0])


def _group_sizes(structure: Structure) -> tuple[list[int], list[int], list[int]]:
    """Channels per convolution, heads per layer, units per layer."""
    channels = [convolution.channels for convolution in structure.convolutions]
    return channels, [len(heads) for heads in structure.heads], list(structure.feed_forward)
