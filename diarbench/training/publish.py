"""What a recipe ends with: a system card, and the folder of its weights with a model card for people."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from diarbench.errors import InputError, StoreError
from diarbench.files import sha256_of, write_whole
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import front_end_of
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.pyannet import PyanNet
from diarbench.nn.quantized import quantization_in
from diarbench.nn.structures import Structure
from diarbench.training.begin import ENCODER, Model, save_model
from diarbench.training.recipes import Recipe

ADAPTER = "diarbench.pipelines.wavlm_eend:WavlmEend"
_REQUIRES = ["torch>=2.6", "torchaudio>=2.6", "pyannote.audio>=4.0.4,<4.1", "safetensors>=0.4"]
_REQUIRES_GE2E = ["torch>=2.6", "safetensors>=0.4"]
_WEIGHTS = "weights"  # a folder beside the card


def publish(
    name: str, recipe: Recipe, model: Model, out: Path, recipe_folder: Path = Path(), *, parts: Sequence[str] = ()
) -> Path:
    """Write `out`/NAME.toml and `out`/weights/NAME; the path of the card.

    `parts` are those of corpora that it was trained on, by which leaderboards mark it; `recipe_folder` is where a file
    that `[card] adapter` names is looked for. What was there stays as it is unless all can be written. Raises
    InputError where a GE2E encoder's card would have no adapter, or sets what follows from the network; StoreError
    where nothing can be written.
    """
    adapter = adapter_of(recipe, model, out, recipe_folder)
    check_out(out)
    place, card = out / _WEIGHTS / name, out / f"{name}.toml"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place.parent) as making:
            new = Path(making) / name
            facts: dict[str, Any] = {"recipe": recipe.title, "seed": recipe.seed, "data": list(recipe.data.train)}
            if isinstance(model.network, Ge2eEncoder) and parts:
                facts["trained_parts"] = list(parts)  # recipes begin with the file, and see no card
            _save(new, recipe, model, facts)
            write_whole(new / "README.md", model_card(name, recipe, model))
            digests = {file.name: sha256_of(file) for file in sorted(new.iterdir()) if file.name != "README.md"}
            text = as_toml(system_card(name, recipe, model, digests, adapter, parts))
            if place.exists():
                shutil.rmtree(place)
            new.rename(place)
    except OSError as error:
        raise StoreError(f"{place}: can't be written: {error.strerror or error}") from error
    write_whole(card, text)
    return card


def _save(folder: Path, recipe: Recipe, model: Model, facts: dict[str, Any]) -> None:
    """Write the network as `[card] store` says; InputError says what to do where that can't be."""
    halves = recipe.card.store == "fp16"
    try:
        save_model(folder, model, facts, halves=halves)
    except InputError as error:
        if not halves:
            raise
        raise InputError(f'[card] store: {error}; what was trained is kept: go on with store = "fp32"') from error


def check_out(out: Path) -> None:
    """Raises StoreError where a card and weights can't be written into this folder; makes nothing."""
    here = (out / _WEIGHTS).absolute()
    while not here.exists():
        here = here.parent
    if not here.is_dir():
        raise StoreError(f"{here}: is a file where a folder for cards and weights is needed: say another --out")
    if not os.access(here, os.W_OK | os.X_OK):
        raise StoreError(f"{here}: can't be written: say another --out")


def check_options(recipe: Recipe, model: Model) -> None:
    """Raises InputError where `[card.options]` says what follows from the network."""
    for key in ("front_end", "structure", "head", "quantization", *network_options(model)):
        if key in recipe.card.options:
            raise InputError(f"[card.options]: {key} follows from the network: leave it out")


def adapter_of(recipe: Recipe, model: Model, out: Path, recipe_folder: Path) -> str:
    """What runs the system, as a card in `out` says it. Raises InputError where a GE2E encoder has none."""
    said = recipe.card.adapter
    if said is None:
        if isinstance(model.network, Ge2eEncoder):
            raise InputError("[card] adapter: say which system embeds with this encoder: '../adapter.py:SileroGe2e'")
        return ADAPTER
    file, _, attribute = said.rpartition(":")
    if not file.endswith(".py"):
        return said
    found = (recipe_folder / file).resolve()
    if not found.is_file():
        raise InputError(f"[card] adapter: there is no {recipe_folder / file}")
    place = Path(os.path.relpath(found, out.resolve())).as_posix()
    return f"{place if place.startswith('.') else './' + place}:{attribute}"


def as_toml(table: Mapping[str, Any], path: str = "") -> str:
    """A table as people write TOML: one line for each key, tables of their own at the end, those in lists inline.

    >>> print(as_toml({"a": 1, "b": {"c d": ["x", 2.5, {"e": True}]}}), end="")
    a = 1
    <BLANKLINE>
    [b]
    "c d" = ["x", 2.5, { e = true }]
    """
    plain = {_key(key): value for key, value in table.items() if not isinstance(value, Mapping)}
    width = max(map(len, plain), default=0)
    text = "".join(f"{key:<{width}} = {_inline(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{_key(key)}" if path else _key(key)
            body = as_toml(value, inner)
            # A table that holds nothing but tables needs no head of its own.
            head = "" if body.startswith("\n") else f"\n[{inner}]\n"
            text += head + body
    return text


def _inline(value: Any) -> str:
    """A value in one line. JSON's texts and numbers are TOML's as well; characters beyond ASCII stand as they are."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_inline(part)}" for key, part in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def system_card(
    name: str,
    recipe: Recipe,
    model: Model,
    digests: Mapping[str, str],
    adapter: str = ADAPTER,
    parts: Sequence[str] = (),
) -> dict[str, Any]:
    """The card as a table: the recipe's template, and what follows from the network and its stages."""
    template = recipe.card
    check_options(recipe, model)
    description = {"description": template.description} if template.description else {}
    weights: dict[str, Any] = {}
    for other, source in (("vad", template.vad), ("embedding", template.embedding), ("plda", template.plda)):
        if source is not None:
            weights[other] = source.model_dump(mode="json", exclude_defaults=True)
    encoder = isinstance(model.network, Ge2eEncoder)
    own: dict[str, Any]
    if encoder:
        own = {"path": f"{_WEIGHTS}/{name}/{ENCODER}", "sha256": digests[ENCODER]}
    else:
        own = {"path": f"{_WEIGHTS}/{name}", "sha256": dict(digests)}
    weights["embedding" if encoder else "segmentation"] = own | (
        {"licence": template.licence} if template.licence else {}
    )
    card: dict[str, Any] = {
        "title": template.title,
        "adapter": adapter,
        **({"baseline": template.baseline} if template.baseline else {}),
        "devices": ["cpu", "cuda"],
        "requires": _REQUIRES_GE2E if encoder else _REQUIRES,
        **({"licence": template.licence} if template.licence else {}),
        **({"source": recipe.source} if recipe.source else {}),
        **description,
        **({"tuned_on": template.tuned_on} if template.tuned_on else {}),
        "trained_on": template.trained_on or list(recipe.data.train),
        **({"trained_parts": list(parts)} if parts else {}),
        "compression": compression(model),
        "weights": weights,
        "options": {**template.options, **network_options(model)},
    }
    return card


def network_options(model: Model) -> dict[str, Any]:
    """Options from which the adapter can build the network without its weights."""
    network = model.network
    quantization = quantization_in(network)
    precision = {"quantization": quantization.mode.name} if quantization is not None else {}
    if isinstance(network, Ge2eEncoder):
        return {"units": list(network.units)} | precision
    options: dict[str, Any] = {"front_end": front_end_of(network), "window": model.window}
    if isinstance(network, PyanNet):
        shape = asdict(network.shape)
        options["head"] = {key: list(value) if isinstance(value, tuple) else value for key, value in shape.items()}
    else:
        options["head"] = _changed(network.head.shape)
    if isinstance(network, Eend):
        options["structure"] = _table(network.wavlm.structure)
    return options | precision


def compression(model: Model) -> dict[str, Any]:
    """How the network was made smaller, in the words of cards: of several prunings the last, and quantization."""
    pruned: dict[str, Any] = {}
    quantized: dict[str, Any] = {}
    for stage in model.history:
        if stage["kind"] == "prune":
            method = {"parameters": "params", "macs": "macs"}[stage["measure"]]
            names = {"all": "sparsity", "CNN": "cnn_sparsity", "Transformer": "transformer_sparsity"}
            pruned = {"method": method} | {names[part]: goal for part, goal in stage["target"].items()}
        elif stage["kind"] == "magnitude":
            pruned = {"method": f"magnitude-{stage['units']}", "sparsity": stage["nominal"]}
            pruned |= {"achieved": round(stage["achieved"], 3)}
        elif stage["kind"] == "quantize":
            quantized = {"method": stage["mode"], "training": stage["method"]}
    methods = [facts["method"] for facts in (pruned, quantized) if facts]
    if not methods:
        return {"method": "none"}
    where = "embedding" if isinstance(model.network, Ge2eEncoder) else "segmentation"
    return {**pruned, **quantized, "method": " + ".join(methods), "stage": where}


def model_card(name: str, recipe: Recipe, model: Model) -> str:
    """What people should know of the weights, as Markdown."""
    last = model.history[-1] if model.history else {}
    encoder = isinstance(model.network, Ge2eEncoder)
    figure = "cosine" if encoder else "local error"
    lines = [f"# {name}", "", recipe.title + ".", ""]
    if recipe.description:
        lines += [recipe.description.strip(), ""]
    # What is quantized is no parameter of torch's any more; the last stage knows how many there were.
    quantized = quantization_in(model.network) is not None and "weights" in last
    parameters = last["weights"] if quantized else sum(one.numel() for one in model.network.parameters())
    stored = ["- Large matrices are stored in 16 bits and computed in 32"] if recipe.card.store == "fp16" else []
    lines += [
        f"- Data: {', '.join(recipe.data.train)}; chosen on {', '.join(recipe.data.development)}",
        f"- Seed: {recipe.seed}; windows of {model.window:g} s",
        f"- Parameters: {parameters:,}",
        *stored,
        f"- Licence: {recipe.card.licence or 'not stated'}",
        "",
        f"| stage | steps | minutes | development loss | {figure} |",
        "|---|---:|---:|---:|---:|",
    ]
    for stage in model.history:
        rounds = stage.get("rounds") or [stage]  # of pruning by magnitude: the last one's measures are the result's
        measures = rounds[-1].get("development", {})
        shown = f"{100 * measures['local_error']:.1f} %" if "local_error" in measures else ""
        shown = f"{measures['cosine']:.3f}" if "cosine" in measures else shown
        loss = f"{measures['loss']:.4f}" if "loss" in measures else ""
        trained = [part for part in rounds if "steps" in part]
        steps = " + ".join(str(part["steps"]) for part in trained)
        minutes = f"{sum(part['seconds'] for part in trained) / 60:.1f}" if trained else ""
        lines.append(f"| {stage['kind']} | {steps} | {minutes} | {loss} | {shown} |")
    if encoder:
        lines += [
            "",
            "The cosine is that of embeddings with the first encoder's, on development data: no DER of a system.",
        ]
    elif "local_error" in (last.get("rounds") or [last])[-1].get("development", {}):
        lines += ["", "The local error is that of windows by themselves on development data: no DER of a system."]
    return "\n".join(lines) + "\n"


def _changed(shape: HeadShape) -> dict[str, int]:
    """What differs from the default head."""
    default = HeadShape()
    names = [field.name for field in fields(shape)]
    return {key: getattr(shape, key) for key in names if getattr(shape, key) != getattr(default, key)}


def _table(structure: Structure) -> dict[str, Any]:
    """A structure as an option of a card."""
    values = {field.name: getattr(structure, field.name) for field in fields(structure)}

    def plain(value: Any) -> Any:
        return [plain(part) for part in value] if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in values.items()}
