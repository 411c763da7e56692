"""Does a warmed-up generator have an image like each real one? The gate of twins made by `synthcl invert`.

    python -m benchmarks.search.inversion [--preset NAME] [--images 100,1000] [--quick] [field=value ...]

64 of the images that G was warmed up on are inverted as the program does it, which looks at pixels alone. `over
nearest` is the median squared distance of G(z) to its image over that of the image to the nearest other real one: in
pixels, and in the features of a classifier that was trained on the preset's labels. Above the bound of 1, G(z) says
less of its image than another image does, and is no view of it. Beside it the same of images that G itself made, which
shows whether latents can be found at all. `--quick`: a tenth of the steps and of the warm-up, one number of images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.search.generator import CPU, features, first, make_judge, samples
from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl import load_preset
from synthcl.comparison.plan import unlabelled_count
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.core.device import resize
from synthcl.data import open_split
from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.runs.gan_cache import warm_up
from synthcl.runs.inversion import invert, nearest_others

INVERTED, STEPS = 64, 200
SPACES = ("pixels", "features")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="cifar10-weak-views")
    parser.add_argument("--images", type=comma_separated(int), default=[100, 1000], help="that G is warmed up on")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    whole = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    whole = whole.with_overrides({"data.image_fraction": 1.0})
    steps, counts = STEPS, options.images
    if options.quick:
        whole = whole.with_overrides({"synthetic.gan.warmup_kimg": whole.gan.warmup_kimg / 10})
        steps, counts = STEPS // 10, counts[:1]

    rows, figures = [], {}
    for count in counts:
        config = whole.with_overrides({"data.image_fraction": count / unlabelled_count(whole.data)})
        images = open_split(config.data, "unlabelled", CPU).images
        encoder, real = make_judge(whole).encoder, first(images, len(images))
        state, _ = warm_up(config, images, CPU, progress=False)
        generator = state["generator"]
        found = refound(config, generator, encoder, real[:INVERTED], steps)
        control = refound(config, generator, encoder, samples(config, generator)[:INVERTED], steps)
        spaces = real, features(encoder, real)[..., None, None].float()
        for space, points, to_itself, of_samples in zip(SPACES, spaces, found, control, strict=True):
            spread = points.var(dim=0).mean().item()
            to_other = nearest_others(points)[:INVERTED].median().item()
            shown = (to_itself / spread, to_other / spread, to_itself / to_other, of_samples / spread)
            rows.append([count, space, *(f"{each:.3f}" for each in shown)])
            figures[f"{space} of inverted over nearest, {count} images"] = to_itself / to_other
    table(["images", "space", "inverted", "nearest other", "over nearest", "samples of G"], rows)
    finish(figures)


@torch.no_grad()
def refound(
    config: Config, state: dict[str, Tensor], encoder: nn.Module, images: Tensor, steps: int
) -> tuple[float, float]:
    """Median over images of the mean squared difference of G(z) from them: of a pixel, and of a feature."""
    network = make_generator(config.gan, config.data.channels, config.gan_image_size).requires_grad_(False)
    network.load_state_dict(state)
    with torch.enable_grad():
        found = invert(network, resize(images, config.gan_image_size), config.gan.latent_dim, steps)
    made = resize(network(found.latents), images.shape[-1])
    pairs = (made, images), (features(encoder, made), features(encoder, images))
    pixels, seen = ((one - other).square().flatten(1).mean(dim=1).median().item() for one, other in pairs)
    return pixels, seen


if __name__ == "__main__":
    main()
