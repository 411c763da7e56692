"""What the curves of a run mean, by the names under which they are logged."""

from __future__ import annotations

import re

_MEANINGS = {
    r"loss/contrast": "Contrastive loss: lower where views of an image agree and those of others do not.",
    r"loss/generator": "What G minimises against D: lower where D takes its images for real ones.",
    r"loss/discriminator": "What D minimises: lower where it tells real from generated images.",
    r"loss/.+": "A term of the loss, before its weight.",
    r"gan/order": "Share of pairs of a real and a generated image in which D rates the real one higher; 0.5 tells "
    "nothing apart, 1 is won by D.",
    r"gan/accuracy": "Share of images that D takes for what they are; 0.5 tells nothing apart, 1 is won by D.",
    r"gan/real_logit": "Mean of D's logits on real images.",
    r"gan/fake_logit": "Mean of D's logits on generated images.",
    r"gan/contrast_gradient": "Norm of the gradient by which the encoder's loss pulls at G's images.",
    r"gan/realism_gradient": "Norm of the gradient by which D pulls at G's images.",
    r"gan/slow_loss": "What the slow encoder loses on the views: it rises where G makes images that nobody recognises.",
    r"gan/choice_entropy": "How evenly one of several candidates is kept: 1 is any of them, 0 the one that looks "
    "most real to D.",
    r"gan/penalty": "Gradient penalty of D, before its weight.",
    r"balance/largest_cluster": "Share of the real images that the largest cluster has.",
    r"balance/repeats": "How often an epoch shows an image of the rarest kind, on average.",
    r"synthetic/pair_similarity": "Mean cosine of the embeddings of G(z) and G_ema(z); high where pairs are easy.",
    r"synthetic/realism_gap": "Distance of synthetic from real features over their variance; 0 cannot be told apart.",
    r"synthetic/diversity": "How much synthetic features vary over latents, over the variance of real ones; 0 is a "
    "generator that has collapsed.",
    r"synthetic/(.+/)?origin_probe": "Accuracy of a linear probe that tells real from synthetic images by frozen "
    "features, in percent; 50 cannot be told apart.",
    r"encoder/variance": "Total variance of the embeddings, at most 1; 0 is an encoder that has collapsed.",
    r"hard_views/loss_ratio": "Mean loss of the views that were chosen, over that of the first draws; 1 is no harder.",
    r"rotation/accuracy": "Share of turned views whose turn is told from their features; 0.25 is chance.",
    r"temperature/[^/]+": "Mean learnt temperature of a view with one like it, through this head.",
    r"temperature/[^/]+/spread": "How far views differ in it: their standard deviation.",
    r"features/std": "Spread of the unit-norm features; 0 where all point one way.",
    r"features/rank": "Effective rank of the features: how many directions they use.",
    r"label_free/.+": "A score without labels; it chooses encoders only where `synthcl calibrate` says that it may.",
    r"reward/.+": "What a bandit pays for views of this arm: how far they pull the encoder as real images do.",
    r"knob/mix\..+": "Share of the views that a bandit gives this arm.",
    r"knob/hardness": "How strongly G opposes the encoder.",
    r"knob/pair_decay": "Share of G_ema that a step keeps.",
    r"knob/synthetic_fraction": "Share of the views that is synthetic.",
    r"knob/view_strength": "How strongly views are augmented; 1 is the base view as it is set.",
    r"knob/(.+_)?learning_rate": "Learning rate.",
    r"knob/.+": "A schedule's value.",
    r"score": "What the search chooses by, in percent. Before the last rung it has another measure than at the last.",
    r"rung_score": "At the last rung, the score by the measure of the earlier ones, in percent.",
    r"(?P<split>val|test)/linear/.+": "Accuracy on {split} of a logistic probe on frozen features, in percent; after @ "
    "the share or number of its labels.",
    r"(?P<split>val|test)/knn/.+": "Accuracy on {split} of the nearest neighbours' vote, in percent.",
    r"(?P<split>val|test)/transfer/.+": "Accuracy on {split} of a logistic probe on other data sets, in percent.",
    r"(?P<split>val|test)/(early-)?transfer-ridge/.+": "Accuracy on {split} of a ridge probe on other data sets, in "
    "percent; cheaper, for rungs.",
    r"(?P<split>val|test)/(early-)?ridge/.+": "Accuracy on {split} of a ridge probe, in percent; cheaper, for rungs.",
}
_SPLITS = {"val": "validation", "test": "test"}


def meaning(name: str) -> str:
    """A sentence for a logged name; empty of one that is not known.

    Example:
        >>> meaning("encoder/variance")
        'Total variance of the embeddings, at most 1; 0 is an encoder that has collapsed.'
        >>> meaning("test/knn/fashion-mini")
        "Accuracy on test of the nearest neighbours' vote, in percent."
    """
    for pattern, text in _MEANINGS.items():
        if found := re.fullmatch(pattern, name):
            return text.format(split=_SPLITS.get(found.groupdict().get("split", ""), ""))
    return ""
