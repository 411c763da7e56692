"""What is on in a run, built once from its configuration: the only place that knows all families."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.device import resize
from synthcl.core.rng import seed_from
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.encoders.batch_norm import synchronise_batch_norm
from synthcl.method.encoders.style import Style
from synthcl.method.scene import Apart, Player, Plugin, Pretext, Seen, SlowCopy, Source, Statistics, Term, View, Views
from synthcl.method.synthetic.gan.source import GanNetworks
from synthcl.method.views import AnyView
from synthcl.training.batch import Batch
from synthcl.training.diagnostics import of_embeddings, of_synthetic, of_views
from synthcl.training.networks import RATE_FACTOR, GanState, make_networks, make_optimizers
from synthcl.training.rewards import rewards

_SITES = ("base", "pixel", "mix")
"""the order of views"""


class Lab:
    """Networks, plug-ins and optimisers of a run, in a fixed order that does not depend on that of the configuration.

    Args:
        config: the whole configuration.
        gan: the warmed-up GAN; None where none is needed.
        device: where everything lives.
        targets: of `Trainer`; without them, terms with a teacher show what a step costs, and learn nothing.
    """

    def __init__(
        self,
        config: Config,
        gan: GanState | None,
        device: torch.device,
        targets: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.networks = networks = make_networks(config, gan, device)
        seed = config.training.seed
        others = {
            name: _initialised(head.build, seed, f"heads {name}", networks.encoder.feature_dim)
            for name, head in sorted(config.heads.items())
            if name != "main"
        }
        self.heads: dict[str, nn.Module] = {"main": networks.projector, **others}
        self.views = views_of(config, config.views_on)
        feature_dim = cast(int, networks.encoder.feature_dim)
        head_dims = {name: head.dim for name, head in config.heads.items()}
        self.terms: dict[str, Term] = {
            name: _initialised(
                term.build,
                seed,
                f"terms {name}",
                term.looks_at(feature_dim, head_dims),
                *([targets[name]] if name in targets else []),
            )
            for name, term in sorted(config.terms_on.items())
        }
        self._pretext = next((term for term in self.terms.values() if isinstance(term, Pretext)), None)
        self._own = nn.ModuleDict({"heads": nn.ModuleDict(others), "views": nn.ModuleDict(self.views)})
        self._own["terms"] = nn.ModuleDict(self.terms)
        synchronise_batch_norm(self._own.to(device))
        self.slow: SlowCopy | None = None
        if any(term.needs_slow for term in self.terms.values()) or (config.needs_gan and config.gan.needs_slow):
            self.slow = SlowCopy(networks.encoder, self.heads, config.training.slow_decay)
        self.style: Style | None = None
        if (style := config.encoder.style) is not None and style.is_on:  # the slow encoder has no hooks: see Style
            stages = style.chosen(config.encoder.stages(networks.encoder), config.encoder.called)
            self.style = _initialised(style.build, seed, "encoder style", stages)
            self._own["encoder"] = nn.ModuleDict({"style": self.style}).to(device)
        learning: dict[str, View | Style] = {f"views.{name}": view for name, view in self.views.items()}
        learning |= {"encoder.style": self.style} if self.style is not None else {}
        self._may_join = learning
        self._of_plugins = {place: one.optimizer for place, one in learning.items() if one.optimizer}
        theirs = {id(one) for its in self._of_plugins.values() for group in its.param_groups for one in group["params"]}
        others_own = [parameter for parameter in self._own.parameters() if id(parameter) not in theirs]
        self.optimizers = make_optimizers(config, networks, others_own)
        self._looked_at = {loop.measured for loop in config.closed_loops.values()}
        self.sources: dict[str, Source] = {}
        if networks.generator is not None and networks.generator_ema is not None and networks.discriminator is not None:
            made = GanNetworks(networks.generator, networks.generator_ema, networks.discriminator)
            made.for_generator, made.for_discriminator = self.optimizers.generator, self.optimizers.discriminator
            self.sources["gan"] = config.gan.build("gan", made)
        self.sources |= {name: folder.build(name) for name, folder in config.folders_on.items()}

    @property
    def encoder(self) -> nn.Module:
        return self.networks.encoder

    @property
    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By the network that learns by it, or the place of the plug-in."""
        return {name: one for name, one in vars(self.optimizers).items() if one is not None} | self._of_plugins

    def learners(self, games: list[tuple[Player, Any]]) -> list[torch.optim.Optimizer]:
        """Who takes part in the update of a step: encoder and heads, and the players that have made something."""
        return [self.optimizers.encoder, *(player.optimizer for player, _ in games)]

    def set_learning_rates(self, knobs: Knobs) -> None:
        """Of encoder and heads, and of the GAN's networks and of plug-ins where they learn."""
        for name, optimizer in self.all_optimizers.items():
            field = f"{name}.learning_rate" if name in self._of_plugins else f"synthetic.gan.{name}_learning_rate"
            rate = knobs.learning_rate if name == "encoder" else knobs.scheduled[field]
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get(RATE_FACTOR, 1.0)

    def images(self, batch: Batch, knobs: Knobs) -> tuple[Views, list[tuple[Player, Any]]]:
        """The images of a step laid out by origin, and each player with its images on the unreversed branch."""
        parts, counts = [batch.real], [self.config.training.views_per_image * len(batch.real)]
        games: list[tuple[Player, Any]] = []
        spans = {"real": slice(0, counts[0])} if counts[0] else {}
        for name, asked in batch.asked.items():
            source = self.sources[name]
            made = source.make(asked, knobs.own(f"synthetic.{name}"))
            start = sum(counts)
            parts += made.parts
            counts += [source.views_per_part * len(part) for part in made.parts]
            spans[name] = slice(start, sum(counts))
            if made.own is not None:
                games.append((source, made.own))  # type: ignore[arg-type]  # what makes something of its own is a player
        ascended = any(term.plays and knobs.own(f"terms.{name}")["weight"] > 0 for name, term in self.terms.items())
        joined = [one.join(knobs.own(place), ascended) for place, one in self._may_join.items()]
        games += [(player, None) for player in joined if player is not None]
        size = self.config.data.image_size
        shown = [(resize(part.float(), size), count) for part, count in zip(parts, counts, strict=True) if count]
        views = Views(
            parts=tuple(part for part, _ in shown),
            counts=tuple(count for _, count in shown),
            spans=spans,
            members=batch.groups[:, None],
            images=batch.images[:, None],
        )
        return views, games

    def apart(self, batch: Batch, knobs: Knobs) -> Apart | None:
        """The views that one term alone looks at; none of them is mixed, or it would show two images in two poses."""
        own = batch.apart
        if own is None or self._pretext is None:
            return None
        images = resize(own.real.float(), self.config.data.image_size)
        of_image = torch.arange(len(images), device=images.device).repeat(len(own.rows) // len(images))
        views = Views((images,), (len(own.rows),), {}, of_image[:, None])
        for name, view in self.views.items():
            if view.site != "mix":
                views = view(views, own.draws[name], knobs.own(f"views.{name}"))
        return Apart(self._pretext.posed(views.parts[0], own.rows), own.rows)

    def losses(self, seen: Seen, knobs: Knobs, players: int) -> tuple[Tensor | None, Tensor | None, Statistics]:
        """The weighted sums of the terms that players ascend, and of those that must not reach an image.

        Where nobody plays, or every term does, there is one sum, and None for the other.
        """
        sums: dict[bool, Tensor] = {}
        statistics: Statistics = {}
        for name, term in self.terms.items():
            own = knobs.own(f"terms.{name}")
            if own["weight"] == 0:
                if f"loss/{name}" in self._looked_at:  # by a loop that could not raise the weight again without it
                    with torch.no_grad():
                        statistics[f"loss/{name}"] = term(seen, own)
                continue
            loss = term(seen, own)
            statistics[f"loss/{name}"] = loss.detach()
            public = term.plays or not players
            weighted = own["weight"] * loss
            sums[public] = sums[public] + weighted if public in sums else weighted
        return sums.get(True), sums.get(False), statistics

    @property
    def plugins(self) -> dict[str, Plugin]:
        """Every plug-in by its place in the configuration."""
        families: dict[str, Mapping[str, Plugin]] = {
            "synthetic": self.sources,
            "views": self.views,
            "terms": self.terms,
            "encoder": {"style": self.style} if self.style is not None else {},
        }
        return {f"{family}.{name}": member for family, all_ in families.items() for name, member in all_.items()}

    def statistics(self, seen: Seen) -> Statistics:
        """What the last step tells of embeddings, synthetic images and the game."""
        embeddings = seen.embeddings("main")
        found = of_embeddings(embeddings)
        if "encoder/alignment" in self._looked_at and (span := seen.views.spans.get("real")):
            found |= of_views(embeddings[span], self.config.training.views_per_image)
        real = seen.views.spans.get("real", slice(0, 0))
        for name, source in self.sources.items():
            if span := seen.views.spans.get(name):
                per_group, per_part = source.views_per_group, source.views_per_part
                measured = of_synthetic(seen.features, embeddings, real, span, per_group, per_part)
                place = "synthetic" if name == "gan" else f"synthetic/{name}"
                found |= {f"{place}/{what}": value for what, value in measured.items()}
        for plugin in self.plugins.values():
            found |= plugin.measures(seen)
        if bandit := self.config.bandit:
            found |= rewards(seen, self.config.training.views_per_image, bandit.temperature)
        return found

    def modules(self) -> Iterable[nn.Module]:
        """Everything with parameters or buffers."""
        return itertools.chain(
            network for network in (*vars(self.networks).values(), self._own, self.slow) if network is not None
        )

    def look(self, views: Views, batch: Batch, knobs: Knobs) -> Seen:
        """What the encoder makes of the views and of those apart, and the slow one where terms ask for it."""
        apart, style = self.apart(batch, knobs), self.style
        with nullcontext() if style is None else style.acting(batch.style, knobs.own("encoder.style")):
            return Seen(views, self.encoder, self.heads, self.slow, apart)

    def slow_loss(self, seen: Seen, knobs: Knobs) -> Tensor | None:
        """The weighted sum of the terms that play, as the slow encoder has it; None where none does in this step.

        It looks at the same views, those apart too, which the statistics of its BatchNorm would otherwise lack. Its
        targets, where a term has any, are its own outputs without gradient. The graph reaches the images.
        """
        assert self.slow is not None, "built where a term or a player needs it"
        playing = {name: knobs.own(f"terms.{name}") for name, term in self.terms.items() if term.plays}
        weighed = {name: own for name, own in playing.items() if own["weight"] > 0}
        if not weighed:
            return None
        slow = Seen(seen.views, self.slow.encoder, dict(self.slow.heads.items()), apart=seen.apart)
        return torch.stack([own["weight"] * self.terms[name](slow, own) for name, own in weighed.items()]).sum()

    def follow(self) -> None:
        """The slow encoder follows."""
        if self.slow is not None:
            self.slow.follow(self.encoder, self.heads)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and, where plug-ins have state, theirs by place, and the slow encoder."""
        own = self._own.state_dict()
        return {
            "networks": {name: net.state_dict() for name, net in vars(self.networks).items() if net is not None},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.all_optimizers.items()},
            **({"plugins": own} if own else {}),
            **({"slow": self.slow.state_dict()} if self.slow is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, network in vars(self.networks).items():
            if network is not None:
                network.load_state_dict(state["networks"][name])
        for name, optimizer in self.all_optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._own.load_state_dict(state.get("plugins", {}))
        if self.slow is not None:
            self.slow.load_state_dict(state["slow"])


def views_of(config: Config, sections: Mapping[str, AnyView]) -> dict[str, View]:
    """These views of a configuration as a step runs them; one that learns has the weights that a run begins with."""
    seed, size = config.training.seed, config.view_size
    return in_order({name: _initialised(view.build, seed, f"views {name}", size) for name, view in sections.items()})


def in_order(views: Mapping[str, View]) -> dict[str, View]:
    """As a step runs them: by site, then by name."""
    return dict(sorted(views.items(), key=lambda item: (_SITES.index(item[1].site), item[0])))


def _initialised(build: Any, seed: int, name: str, *arguments: Any) -> Any:
    """A plug-in with numbers of its own, so that adding it moves nobody else's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "initialisation", name))
        return build(*arguments)
