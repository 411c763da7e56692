"""A bound on how hard a generator may make its images: the slow encoder must still recognise them.

Hard for the encoder and easy for its average is what it has not learnt yet. Hard for both is what nobody could learn,
such as a pair whose two images show different things.

Source: after Nix et al., "HARD: Hard Augmentations for Robust Distillation", 2023, whose augmentor looks for images on
which student and teacher disagree, and Suzuki, "TeachAugment", CVPR 2022, whose teacher is an average of the student.
Here the augmentor is G, and their classes are the groups of the terms that play.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Teacher:
    """What the slow encoder's loss says of the images of one step; the reversal node asks it in the backward pass.

    Args:
        share: kappa, at least 0: how much of the slow encoder's gradient is taken off the encoder's.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.gradient: Tensor | None = None
        """(n, C, H, W) of the slow encoder's loss at the images; None before it has looked"""

    def look(self, loss: Tensor, images: Tensor) -> None:
        """Keep the gradient at the images; the graph between them and the views stays for the step's own pass.

        Args:
            loss: 0-dim, of the terms that play as the slow encoder has them.
            images: (n, C, H, W) the branch of the node that views are made of.
        """
        (self.gradient,) = torch.autograd.grad(loss, images, retain_graph=True)

    def bounded(self, contrastive: Tensor) -> Tensor:
        """What is left for G to ascend: the encoder's gradient (n, C, H, W) less kappa times the slow encoder's."""
        return contrastive if self.gradient is None else contrastive - self.share * self.gradient
