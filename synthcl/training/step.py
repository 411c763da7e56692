"""The joint step: the paper on one page.

Source: Wu et al., "Synthetic Data Can Also Teach: Synthesizing Effective Data for Unsupervised Visual
Representation Learning", AAAI 2023.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from synthcl.core.updates import update
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.scene import Statistics
from synthcl.training.batch import Batch
from synthcl.training.drawn import drawn
from synthcl.training.lab import Lab


def joint_step(lab: Lab, batch: Batch, knobs: Knobs) -> Statistics:
    """One update of everything that learns.

    encoder, heads   minimise   sum of weight * loss over all terms; in the paper PPCL alone
    each player      minimises  restraint - hardness * (the same sum over the terms that play), within its bound
    D                minimises  its adversarial loss, judging G only
    G_ema            <- m G_ema + (1 - m) G
    """
    lab.set_learning_rates(knobs)

    # Images: real ones, then each source's. A player's images pass its reversal node, the identity forwards.
    views, games = lab.images(batch, knobs)  # laid out by origin; players, with the branch that is not reversed
    for player, own in games:
        player.prepare(own)  # the discriminator's own update
    restraints = [player.restraint(own) for player, own in games]  # realism of G; a view that learns has a hard budget

    # Views, site by site. Those of one image, or of one latent, share a group. Views apart are one term's alone. A view
    # that learns has a reversal node of its own. Hard views look first, and choose how the base view is drawn.
    draws = drawn(lab, views, batch, knobs)
    for name, view in lab.views.items():
        views = view(views, draws[name], knobs.own(f"views.{name}"))

    # Losses. `played` reaches encoder, heads and, through the reversal, players; `private` encoder and heads alone.
    seen = lab.look(views, batch, knobs)  # features (views, feature_dim)
    played, private, losses = lab.losses(seen, knobs, players=len(games))
    for player, own in games:  # what the slow encoder still recognises bounds how hard images may become
        player.heed(own, lambda: lab.slow_loss(seen, knobs))
    total = reduce(add, [loss for loss in (played, *restraints) if loss is not None])
    update(total, *lab.learners(games), private=private)

    # Afterwards: the averaged generator, banks, and the slow encoder where a term looks through it.
    for place, plugin in lab.plugins.items():
        plugin.after(seen, knobs.own(place))
    lab.follow()
    return losses | lab.statistics(seen)
