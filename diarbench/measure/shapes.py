"""What a call of a network looked like, without its values: enough to make one like it on the meta device."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

# Of a call: arguments, and keywords as (name, value) pairs; tensors by shape and number type, all else by value.
Shape = tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]

Sizes = tuple[int, ...]  # of all tensors of a call, one after the other

_BY_VALUE = frozenset({int, float, bool, str, bytes, type(None)})


class _Tensor(NamedTuple):
    """In place of a tensor argument; in a form, without sizes, `shape` has as many zeros."""

    shape: tuple[int, ...]
    dtype: Any


class _Several(NamedTuple):
    """In place of a list, a tuple or a dict."""

    kind: type
    items: tuple[Any, ...]


class _Opaque(NamedTuple):
    """In place of an argument that can't be made anew."""

    kind: str


class Form(NamedTuple):
    """A call without the sizes of its tensors, and these sizes."""

    form: Any
    sizes: Sizes


def shape_of_call(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Shape:
    """What is kept of a call. This is inside timed calls."""
    named = tuple((name, _shape(value)) for name, value in keywords.items()) if keywords else ()
    return tuple(map(_shape, arguments)), named


def made(shape: Shape, dtype: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments and keywords like those that were recorded, on the meta device; floating tensors of `dtype`, if one is
    given: what runs in half precision is counted in full. Raises TypeError for what can't be made anew."""
    return [_made(value, dtype) for value in shape[0]], {name: _made(value, dtype) for name, value in shape[1]}


def split(shape: Shape) -> Form:
    """A call's form and its sizes."""
    sizes: list[int] = []
    return Form(_without_sizes(shape, sizes), tuple(sizes))


def joined(form: Form) -> Shape:
    """The call of a form with these sizes."""
    left = iter(form.sizes)

    def fill(part: Any) -> Any:
        if isinstance(part, _Tensor):
            return _Tensor(tuple(next(left) for _ in part.shape), part.dtype)
        if isinstance(part, _Several):
            return _Several(part.kind, tuple(map(fill, part.items)))
        return tuple(map(fill, part)) if type(part) is tuple else part

    arguments, keywords = fill(form.form)
    return arguments, keywords


def _without_sizes(part: Any, sizes: list[int]) -> Any:
    if isinstance(part, _Tensor):
        sizes += part.shape
        return _Tensor((0,) * len(part.shape), part.dtype)
    if isinstance(part, _Several):
        return _Several(part.kind, tuple(_without_sizes(item, sizes) for item in part.items))
    return tuple(_without_sizes(item, sizes) for item in part) if type(part) is tuple else part


def _shape(value: Any) -> Any:
    """What stands for an argument, quick to make and to compare."""
    kind = type(value)
    if isinstance(value, sys.modules["torch"].Tensor):
        return _Tensor(value.shape, value.dtype)
    if kind in _BY_VALUE:
        return value
    if kind is tuple or kind is list:
        return _Several(kind, tuple(map(_shape, value)))
    if kind is dict:
        return _Several(dict, tuple((key, _shape(item)) for key, item in value.items()))
    return _Opaque(kind.__name__)


def _made(shape: Any, dtype: Any) -> Any:
    import torch

    if isinstance(shape, _Several):
        if shape.kind is dict:
            return {key: _made(item, dtype) for key, item in shape.items}
        return shape.kind(_made(item, dtype) for item in shape.items)
    if isinstance(shape, _Opaque):
        raise TypeError(f"it is called with a {shape.kind}, which can't be made anew")
    if not isinstance(shape, _Tensor):
        return shape
    chosen = dtype if dtype is not None and shape.dtype.is_floating_point else shape.dtype
    return torch.empty(shape.shape, dtype=chosen, device="meta")
