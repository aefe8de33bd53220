"""The row of decoder layers in a transformers model."""

from __future__ import annotations

from typing import Any

from torch import nn


def layers_of(model: Any) -> nn.ModuleList | None:
    """Return the list of modules that is as long as the model says it is deep; None where there is none."""
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return next((found for found in lists if len(found) == depth), None)
