"""Adapters: few weights beside the model's own, which stay as they are. Their layers and files are peft's.

    lora      W + (alpha / r) B A on some linear layers               Hu et al. 2021, arXiv:2106.09685
    dora      the same on W's directions, and a magnitude a row       Liu et al. 2024, arXiv:2402.09353
    adalora   W + P diag(l) Q, ranks dealt out while it trains        Zhang et al. 2023, arXiv:2303.10512
    qlora     lora on weights that are kept in four bits              Dettmers et al. 2023, arXiv:2305.14314
    prefix    learned keys and values before every sequence           Li & Liang 2021, arXiv:2101.00190
    prompt    learned embeddings before every sequence                Lester et al. 2021, arXiv:2104.08691
    design    LoRA, BitFit, bottlenecks, prefixes, by groups of layers  Chen et al. 2023, arXiv:2301.01821

The first four change linear layers and can be merged into them; the next two put virtual tokens before every sequence
(virtual.py). The last is not peft's, which puts one kind on all layers (design.py, designed.py). With the adapter off,
the model is the one that it was: so one set of weights is policy and reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from transformers.pytorch_utils import Conv1D

from kilter.engine import four_bits
from kilter.engine.design import BUDGET, FOUND, Design, Part, Sizes, fit
from kilter.engine.designed import Designed, parts_of
from kilter.errors import KilterError, first_line, nearest
from kilter.store import fingerprint

Kind = Literal["none", "lora", "dora", "adalora", "qlora", "prefix", "prompt", "design"]
ALL = "all"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the paper of an adapter used; `targets` are tried in this order, a set of names each, then every layer."""

    rank: int = 0
    alpha: float = 0
    dropout: float = 0
    targets: tuple[tuple[str, ...], ...] = ()
    virtual_tokens: int = 0


# Queries and values, by the names of the architectures; where they are one matrix with the keys, that one.
QUERY_VALUE = (("q_proj", "v_proj"), ("query_key_value",), ("qkv_proj",), ("c_attn",), ("Wqkv",), ("q", "v"))
DEFAULTS: dict[str, Defaults] = {
    "lora": Defaults(4, 32, 0.1, QUERY_VALUE),  # GPT-2
    "dora": Defaults(32, 64, 0.05, (("q_proj", "k_proj", "v_proj", "up_proj", "down_proj"),)),  # LLaMA
    "adalora": Defaults(8, 32, 0.0),  # BART; starts from 1.5 times the rank
    "qlora": Defaults(64, 16, 0.1),  # LLaMA, 7 and 13 billion parameters
    "prefix": Defaults(virtual_tokens=10),  # GPT-2, table-to-text
    "prompt": Defaults(virtual_tokens=100),  # T5
}
# Hidden width of the network that a prefix is made by while it trains.
PROJECTION = 512


class AdapterOptions(BaseModel):
    """What training can be told about adapters. None stands for the paper's own setting, see DEFAULTS."""

    model_config = ConfigDict(extra="forbid")

    adapter: Kind = Field(default="none", description="What to train: all weights, or an adapter beside them.")
    adapter_rank: int | None = Field(
        default=None, gt=0, description="Rank of the update (lora 4, dora 32, adalora 8 on average, qlora 64)."
    )
    adapter_alpha: float | None = Field(
        default=None, gt=0, description="Scale of the update, over its rank (lora 32, dora 64, adalora 32, qlora 16)."
    )
    adapter_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout before the update (lora 0.1, dora 0.05, adalora 0, qlora 0.1)."
    )
    adapter_targets: str | None = Field(
        default=None,
        description="Linear layers with an update: names with commas between, or all (lora queries and values, "
        "dora those and keys, up and down, the others all).",
    )
    virtual_tokens: int | None = Field(
        default=None, gt=0, description="Learned tokens before every sequence (prefix 10, prompt 100)."
    )
    design: str | None = Field(
        default=None,
        description="Of adapter=design, grouping:allocation:strategies of each group, out of A (adapter), P (prefix), "
        f"B (BitFit) and L (LoRA) ({FOUND}).",
    )
    design_budget: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=f"Share of the model's parameters that a design has ({BUDGET}).",
    )
    merge: bool = Field(default=False, description="Merge the adapter into the weights: an ordinary checkpoint.")

    def tokens_ahead(self) -> int:
        """Return how many virtual tokens there will be."""
        known = DEFAULTS.get(self.adapter, Defaults()).virtual_tokens
        return (self.virtual_tokens or known) if known else 0


def check(options: AdapterOptions) -> None:
    """Raise KilterError for settings that do not go together, or a library that is not there."""
    kind = options.adapter
    known = DEFAULTS.get(kind, Defaults())
    of_layers = ("adapter_rank", "adapter_alpha", "adapter_dropout", "adapter_targets")
    for name in (*of_layers, "virtual_tokens"):
        fits = known.rank if name in of_layers else known.virtual_tokens
        if getattr(options, name) is not None and not fits:
            what = [each for each, d in DEFAULTS.items() if (d.rank if name in of_layers else d.virtual_tokens)]
            raise KilterError(
                f"{name} is set, which belongs to an adapter of the kind {', '.join(what[:-1])} or {what[-1]}, "
                f"and adapter is {kind}; leave it out or choose one of these."
            )
    for name in ("design", "design_budget"):
        if getattr(options, name) is not None and kind != "design":
            raise KilterError(f"{name} is set, and adapter is {kind}; leave it out or say adapter=design.")
    if kind == "design":
        Design.read(options.design or FOUND)
    if options.merge and not known.rank:
        part = "bottlenecks and prefixes of a design" if kind == "design" else f"virtual tokens ({kind})"
        why = "there is none (adapter is none)" if kind == "none" else f"{part} have no place in them"
        raise KilterError(f"merge puts an adapter into the weights, but {why}; leave merge out.")
    if kind == "qlora":
        four_bits.check()


def attach(model: Any, options: Any, *, steps: int, device: torch.device, bf16: bool) -> Any:
    """Return `model` with the adapter that `options` ask for, the only thing in it that is trained.

    A model that comes with an adapter keeps that one. `options` are AdapterOptions with a `seed`; `steps` are all that
    will be taken, by which adalora plans; `device` and `bf16` say where and how a quantised base computes. Raises
    KilterError where the two do not fit.
    """
    check(options)
    if kind_of(model) is not None:
        _expect(model, options)
        four_bits.compute_in(model, torch.bfloat16 if bf16 else torch.float32)
        return model
    if options.adapter == "none":
        return model
    if merged := getattr(model, "merged_from", None):
        raise KilterError(
            f"'{merged}' is itself an adapter ({model.merged_kind}), and another cannot stand on it; "
            f"continue it with adapter={model.merged_kind}, or train it with merge first."
        )
    torch.manual_seed(options.seed)
    if options.adapter == "design":
        digest = digest_of(model)
        asked, sizes = planned(model, options)
        found = Designed(model, str(asked), sizes)
        found.fresh, found.base_digest = True, digest
        return found
    return _wrapped(model, _config(model, options, steps), options.adapter, device, bf16)


def planned(model: Any, options: AdapterOptions) -> tuple[Design, Sizes]:
    """Return the design that `options` ask for, with the sizes that its budget allows in `model`."""
    asked = Design.read(options.design or FOUND)
    parts, budget = room_for(model, options)
    return asked, fit(asked, parts, budget)


def room_for(model: Any, options: AdapterOptions) -> tuple[list[list[Part]], int]:
    """Return what a design may give to each layer of `model`, and how many parameters it may have in all."""
    whole = sum(p.numel() for p in model.parameters())
    return parts_of(model, targets(model, None, QUERY_VALUE)), round((options.design_budget or BUDGET) * whole)


def _wrapped(model: Any, config: Any, kind: str, device: torch.device, bf16: bool) -> Any:
    from peft import get_peft_model

    digest = digest_of(model)
    if kind == "qlora":
        four_bits.quantise(model, device=device, compute=torch.bfloat16 if bf16 else torch.float32)
    with quiet():
        try:
            found: Any = get_peft_model(model, config)
        except (ValueError, TypeError) as error:
            raise KilterError(
                f"{type(model).__name__} takes no {kind} adapter ({first_line(error)}); choose another kind."
            ) from error
    # With a fresh adapter off the model is the one that was given.
    found.fresh, found.base_digest, found.known_as = True, digest, getattr(model, "known_as", None)
    return found


def _config(model: Any, options: AdapterOptions, steps: int) -> Any:
    """Return peft's configuration of the adapter that `options` ask for."""
    from peft import AdaLoraConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    kind, known = options.adapter, DEFAULTS[options.adapter]
    task = {"task_type": task_of(model)}
    if kind in ("prefix", "prompt"):
        shared: dict[str, Any] = {**task, "num_virtual_tokens": options.virtual_tokens or known.virtual_tokens}
        if kind == "prompt":
            return PromptTuningConfig(**shared, prompt_tuning_init="SAMPLE_VOCAB")
        return PrefixTuningConfig(**shared, prefix_projection=True, encoder_hidden_size=PROJECTION)
    rank = options.adapter_rank or known.rank
    layers: dict[str, Any] = {
        **task,
        "lora_alpha": known.alpha if options.adapter_alpha is None else options.adapter_alpha,
        "lora_dropout": known.dropout if options.adapter_dropout is None else options.adapter_dropout,
        "target_modules": targets(model, options.adapter_targets, known.targets),
    }
    if kind != "adalora":
        return LoraConfig(**layers, r=rank, use_dora=kind == "dora")
    first = -(-3 * rank // 2)
    # Of the paper's runs about a tenth warms up and a third settles; ranks change in between.
    times: dict[str, Any] = {
        "tinit": steps // 10,
        "tfinal": steps // 3,
        "deltaT": max(1, steps // 1000),
        "total_step": steps,
    }
    return AdaLoraConfig(**layers, init_r=first, target_r=rank, beta1=0.85, beta2=0.85, orth_reg_weight=0.1, **times)


def task_of(model: Any) -> str:
    """Return what peft calls the task of a transformers model: to write, or to judge, whose head then learns too."""
    return "SEQ_CLS" if hasattr(model, "score") else "CAUSAL_LM"


def targets(model: Any, asked: str | None, usual: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the names of the linear layers that get an update: those `asked` for, or the first that are `usual`.

    Raises KilterError for a name that no linear layer has; the head is not among them.
    """
    own = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    names = sorted({name.rpartition(".")[2] for name, module in own.items() if module not in heads})
    if asked is None:
        return next((list(some) for some in usual if set(some) <= set(names)), names)
    if asked.strip() in (ALL, "all-linear"):
        return names
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    for name in wanted or [asked]:
        if not any(key == name or key.endswith("." + name) for key, m in own.items() if m not in heads):
            raise KilterError(
                f"{type(model).__name__} has no linear layer '{name}' to adapt; it has {', '.join(names)} "
                f"(adapter_targets).{nearest(name, names)}"
            )
    return wanted


def _expect(model: Any, options: AdapterOptions) -> None:
    """Refuse to continue an adapter as another kind, or with settings that it does not have."""
    kind, config = kind_of(model), getattr(model, "active_peft_config", None)
    learns = model.learns if isinstance(model, Designed) else not model.active_peft_config.inference_mode
    if options.adapter == "none" and not learns:
        raise KilterError(
            f"The model comes with a {kind} adapter, which cannot be merged, and adapter is none, which trains all "
            f"weights; continue the adapter with adapter={kind}."
        )
    if kind == "adalora":
        raise KilterError(
            "The model comes with an adalora adapter, whose ranks are settled once it is trained; leave adapter out, "
            "which trains all weights with the adapter merged."
        )
    if options.adapter not in ("none", kind):
        raise KilterError(
            f"The model comes with an adapter of the kind {kind}, and adapter is {options.adapter}; "
            f"continue it with adapter={kind}, or merge it first."
        )
    has = {
        "adapter_rank": getattr(config, "r", None),
        "adapter_alpha": getattr(config, "lora_alpha", None),
        "adapter_dropout": getattr(config, "lora_dropout", None),
        "virtual_tokens": getattr(config, "num_virtual_tokens", None),
        "design": model.design if isinstance(model, Designed) else None,
    }
    for name, value in has.items():
        asked = getattr(options, name)
        if name == "design" and asked is not None:
            asked = str(Design.read(str(asked)))
        if asked is not None and asked != value:
            raise KilterError(f"{name} is {asked}, and that of the adapter that is continued {value}; leave it out.")
    for name in ("adapter_targets", "design_budget"):
        if getattr(options, name) is not None:
            verb, them = ("are", "them") if name == "adapter_targets" else ("is", "it")
            raise KilterError(f"{name} {verb} settled for an adapter that is continued; leave {them} out.")


def kind_of(model: Any) -> Kind | None:
    """Return the kind of the adapter that a model has, None for one without (or of a kind that is not ours)."""
    if isinstance(model, Designed):
        return "design"
    config = getattr(model, "active_peft_config", None)
    if config is None:
        return None
    if config.peft_type == "LORA":
        if four_bits.is_quantised(model):
            return "qlora"
        return "dora" if config.use_dora else "lora"
    names: dict[str, Kind] = {"ADALORA": "adalora", "PREFIX_TUNING": "prefix", "PROMPT_TUNING": "prompt"}
    return names.get(config.peft_type)


def off(model: Any) -> Any:
    """Return a context in which the model is the one below its adapter; for a model without one, it changes nothing."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else _nothing()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def dropouts(model: nn.Module) -> list[nn.Module]:
    """Return the dropout layers that a method asks for: an adapter's, and residual.py's. The model's own stay off."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and module.p > 0 and {"lora_dropout", "residual_dropout"} & {*name.split(".")}
    ]


def trained(model: Any, options: AdapterOptions) -> Any:
    """Return what a run leaves of `model`: itself, or with `merge` the whole with the adapter in its weights."""
    return merged(model) if options.merge else model


def merged(model: Any) -> Any:
    """Return the transformers model with its adapter in its weights, changed in place."""
    with quiet():
        if four_bits.is_quantised(model):
            return four_bits.dense(model)
        return model.merge_and_unload()


def digest_of(model: Any) -> str:
    """Return a short hash of a model's trunk, by which an adapter knows its base: shapes, and some numbers of each.

    In bfloat16, so that a checkpoint has the same one in whatever precision it is loaded; without the head, so that a
    reward model that is made of a language model has the same one.
    """
    own = [p.detach() for p in model.base_model.parameters()]
    first = [p.reshape(-1)[:64].to(torch.bfloat16).double().sum() for p in own]
    return fingerprint([tuple(p.shape) for p in own], torch.stack(first).tolist())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep peft's remarks on what we asked it for from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
