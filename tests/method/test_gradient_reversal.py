"""One backward pass through the fork gives both players' gradients."""

import pytest
import torch

from synthcl.core import rng
from synthcl.method.synthetic.gradient_reversal import reverse_gradient


class Game:
    """A generator of three images from one weight matrix, an encoder's loss and a discriminator's loss."""

    def __init__(self):
        draw = rng.generator("game")
        self.weight = torch.randn(8, 16, generator=draw).requires_grad_()
        self.encoder = torch.randn(16, 5, generator=draw).requires_grad_()
        self.judge = torch.randn(16, generator=draw)
        self.latents = torch.randn(3, 8, generator=draw)

    def images(self):
        return (self.latents @ self.weight).tanh().view(3, 1, 4, 4)

    def contrast(self, images):
        return (images.flatten(1) @ self.encoder).square().logsumexp(dim=1).mean()

    def realism(self, images):
        return torch.nn.functional.softplus(-images.flatten(1) @ self.judge).mean()

    def two_passes(self, hardness, unit):
        """Gradients of weight and encoder, each objective differentiated by itself."""
        images = self.images()
        (at_contrast,) = torch.autograd.grad(self.contrast(images), images, retain_graph=True)
        (at_realism,) = torch.autograd.grad(self.realism(images), images, retain_graph=True)
        scale = hardness * at_realism.norm() / at_contrast.norm() if unit == "gradient_ratio" else hardness
        (contrast,) = torch.autograd.grad(self.contrast(images), self.weight, retain_graph=True)
        (realism,) = torch.autograd.grad(self.realism(images), self.weight)
        (encoder,) = torch.autograd.grad(self.contrast(self.images().detach()), self.encoder)
        return realism - scale * contrast, encoder, torch.stack([at_contrast.norm(), at_realism.norm()])


@pytest.mark.parametrize("unit", ["weight", "gradient_ratio"])
@pytest.mark.parametrize("hardness", [0.0, 0.3, 4.0])
def test_one_pass_equals_two_passes(unit, hardness):
    game, norms = Game(), torch.zeros(2)
    for_encoder, for_discriminator = reverse_gradient(game.images(), hardness, unit, norms)
    (game.contrast(for_encoder) + game.realism(for_discriminator)).backward()
    weight, encoder, expected_norms = game.two_passes(hardness, unit)
    torch.testing.assert_close(game.weight.grad, weight)
    torch.testing.assert_close(game.encoder.grad, encoder)
    if hardness:
        torch.testing.assert_close(norms, expected_norms)


def test_gradient_ratio_sets_the_norm_of_contrast_relative_to_realism():
    game = Game()
    images = game.images().detach().requires_grad_()
    for_encoder, for_discriminator = reverse_gradient(images, 0.7, "gradient_ratio")
    # A contrastive loss a million times larger changes nothing.
    (1e6 * game.contrast(for_encoder) + game.realism(for_discriminator)).backward()
    (realism,) = torch.autograd.grad(game.realism(images), images)
    contrastive_part = images.grad - realism
    assert contrastive_part.norm().item() == pytest.approx(0.7 * realism.norm().item(), rel=1e-4)
    (contrast,) = torch.autograd.grad(game.contrast(images), images)
    cosine = torch.nn.functional.cosine_similarity(contrastive_part.flatten(), contrast.flatten(), dim=0)
    assert cosine.item() == pytest.approx(-1, abs=1e-5)


def test_hardness_zero_leaves_realism_alone_and_spares_the_encoder_branch_its_gradient():
    game = Game()
    for_encoder, for_discriminator = reverse_gradient(game.images(), 0.0, "weight")
    assert not for_encoder.requires_grad
    assert for_discriminator.requires_grad


def test_forward_changes_nothing():
    images = Game().images()
    assert all(torch.equal(branch, images) for branch in reverse_gradient(images, 0.5, "weight"))


def test_a_vanished_contrastive_gradient_stays_finite():
    images = torch.rand(2, 1, 4, 4).requires_grad_()
    for_encoder, for_discriminator = reverse_gradient(images, 1.0, "gradient_ratio")
    (0 * for_encoder.sum() + for_discriminator.sum()).backward()
    torch.testing.assert_close(images.grad, torch.ones_like(images))
