"""What precision a product is made in."""

from __future__ import annotations

import torch


def computed_in(device: torch.device, kind: torch.dtype) -> torch.dtype:
    """Return the precision that products of tensors of `kind` are made in there: autocast's own, where that is on."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else kind
