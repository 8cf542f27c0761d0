"""What training minimises: cross-entropy with label smoothing, or focal loss, plus a share for auxiliary heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def focal_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, gamma: float = 0.0,
                        weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy with label smoothing; gamma > 0 weighs clips by (1 - p)^gamma (focal loss, Lin et al. 2017).

    Args:
        logits: [B, N]; labels: int64 [B]; smoothing: share spread evenly over all signs; gamma: 0 is plain; weights:
        [B] of the clips, by which their losses are multiplied before the mean over B is taken.
    """
    logits = logits.float()
    if gamma == 0 and weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    if gamma:
        share = torch.softmax(logits, -1).gather(1, labels[:, None]).squeeze(1)
        loss = loss * (1 - share) ** gamma
    return (loss if weights is None else loss * weights).mean()


def recognition_loss(outputs, labels: Tensor, smoothing: float, gamma: float, auxiliary_weight: float,
                     weights: Tensor | None = None) -> Tensor:
    """Loss of `slr_lib.model.Outputs`: the head's, plus auxiliary_weight times the mean of the auxiliary heads'."""
    loss = focal_cross_entropy(outputs.logits, labels, smoothing, gamma, weights)
    if not outputs.auxiliaries or auxiliary_weight == 0:
        return loss
    others = [focal_cross_entropy(logits, labels, smoothing, gamma, weights) for logits in outputs.auxiliaries]
    return loss + auxiliary_weight * torch.stack(others).mean()
