"""Distillation: its loss, targets by image, and teachers that are loaded, refused, and look at every image once."""

import json
import math

import pytest
import torch
from small_trainer import CPU, FOLDER, random_images, random_targets, tiny_config, trainer_of, unit, untrained_gan
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from synthcl import load_encoder
from synthcl.config.cli import config_of
from synthcl.core.errors import UserError
from synthcl.data import ResidentImages
from synthcl.method.objectives.distil import DistilConfig, distance
from synthcl.method.scene import Seen, Views
from synthcl.runs.export import save_encoder
from synthcl.runs.teachers import describe_teachers, require_teachers, targets_of
from synthcl.training.flops import training_flops
from synthcl.training.trainer import Trainer

NOW = {"weight": 1.0}
TERM = {"kind": "distil", "teacher": "teacher.safetensors", "hidden": 8}


def written(folder, **overrides):
    """A teacher of random weights, whose statistics of BatchNorm are not those that it begins with."""
    config = tiny_config(overrides)
    encoder = config.encoder.build(config.data.channels, config.view_size)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    save_encoder(folder / "teacher.safetensors", encoder, config, {})
    return str(folder / "teacher.safetensors")


def see(features, images, real, weights=None):
    views = Views(
        (torch.zeros(len(features), 1, 1, 1),),
        (len(features),),
        {"real": slice(0, real), "gan": slice(real, len(features))},
        torch.arange(len(features))[:, None],
        weights,
        images,
    )
    return Seen(views, lambda parts: features, {"main": nn.Identity()})


def test_the_loss_is_the_mean_distance_of_predictions_from_the_targets_of_their_images():
    torch.manual_seed(0)
    targets, features = 3 * torch.randn(7, 4), torch.randn(6, 5)
    term, images = DistilConfig(teacher="t", hidden=8).build(5, targets), torch.tensor([2, 6, 0, 2, -1, -1])
    first, norm, _, second = term.predictor
    hidden = features[:4].double() @ first.weight.double().T
    hidden = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + norm.eps).sqrt()
    total = 0.0
    for row, position in zip(hidden.clamp(min=0), images[:4].tolist(), strict=True):
        p = [sum(w.item() * h.item() for w, h in zip(unit_, row, strict=True)) for unit_ in second.weight.double()]
        p = [x + b for x, b in zip(p, second.bias.tolist(), strict=True)]
        t = targets[position].tolist()
        dot = sum(a * b for a, b in zip(p, t, strict=True))
        total += 1 - dot / math.sqrt(sum(a * a for a in p) * sum(b * b for b in t))
    assert term(see(features, images[:, None], real=4), NOW).item() == pytest.approx(total / 4, rel=1e-5)


def test_it_is_0_of_what_points_the_same_way_1_of_right_angles_and_2_of_opposites():
    t = torch.tensor([[[2.0, 0.0]]])
    for p, expected in (([5.0, 0.0], 0), ([0.0, 1.0], 1), ([-3.0, 0.0], 2)):
        assert distance(torch.tensor([p]), t).item() == pytest.approx(expected)


def test_a_mixed_view_has_the_targets_of_both_images_by_weight():
    predicted, targets = unit(3, 4, "p"), unit(5, 4, "t")
    images, weights = torch.tensor([[0, 1], [1, 0], [4, 4]]), torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.5, 0.5]])
    expected = sum(weights[i, a] * (1 - predicted[i] @ targets[images[i, a]]) for i in range(3) for a in range(2))
    assert distance(predicted, targets[images], weights).item() == pytest.approx(expected.item() / 3, rel=1e-5)


def test_it_looks_at_views_of_real_images_alone():
    targets, features = unit(7, 4, "t"), unit(8, 5, "features").requires_grad_()
    term, images = DistilConfig(teacher="t", hidden=8).build(5, targets), torch.arange(8)[:, None] - 4
    images[:4] = torch.arange(4)[:, None]
    term(see(features, images, real=4), NOW).backward()
    assert features.grad[:4].any(dim=1).all()
    assert not features.grad[4:].any()
    assert term(see(features, images, real=0), NOW) == 0


def test_cached_features_are_those_that_the_teacher_makes_of_an_image_by_itself(tmp_path):
    file = written(tmp_path)
    config, images = (
        tiny_config({"terms.taught": TERM | {"teacher": file}, "evaluation.batch_images": 16}),
        random_images(),
    )
    cached, teacher = targets_of(config, images)["taught"], load_encoder(file)
    assert cached.shape == (40, teacher.feature_dim)
    with torch.no_grad():
        for row, pixels in enumerate(images.pixels):
            torch.testing.assert_close(cached[row], teacher(teacher.transform(pixels))[0], rtol=0, atol=1e-6)
    assert targets_of(config, images)["taught"] is cached  # once for all runs of a process
    assert len(cached.unique(dim=0)) == 40


def test_a_teacher_of_larger_images_sees_them_at_its_own_size(tmp_path):
    file = written(tmp_path, **{"data.image_size": 32})
    config, images = tiny_config({"terms.taught": TERM | {"teacher": file}}), random_images()
    cached, teacher = targets_of(config, images)["taught"], load_encoder(file)
    shown = teacher.transform(images.pixels[:3])
    assert shown.shape == (3, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(cached[:3], teacher(shown), rtol=0, atol=1e-6)


def test_targets_are_no_part_of_a_checkpoint_and_a_run_without_them_is_refused():
    config = tiny_config({"terms.taught": TERM})
    state = trainer_of(config).state_dict()["plugins"]
    assert any(name.startswith("terms.taught.predictor") for name in state)
    assert not any("targets" in name for name in state)
    for wrong in ({}, random_targets(config, images=39)):
        with pytest.raises(ValueError, match="a target for each of 40 images"):
            Trainer(config, random_images(), untrained_gan(config), CPU, {}, wrong)


def test_an_encoder_learns_what_its_teacher_knows(tmp_path):
    images, file = random_images(), written(tmp_path)
    images.pixels.copy_(images.pixels // 4 + (torch.arange(40) * 4)[:, None, None, None].to(torch.uint8))
    settings = {"terms.taught": TERM | {"teacher": file}, "curriculum.synthetic_fraction": 0.0, "training.kimg": 0.64}
    config = tiny_config(settings | {"curriculum.view_strength": 0.0, "terms.contrast.weight": 1e-6})
    targets = targets_of(config, images)
    targets = {name: of - of.mean(dim=0) for name, of in targets.items()}  # what all have in common is soon learnt
    history = Trainer(config, images, None, CPU, {}, targets).advance(40)
    assert history[0]["loss/taught"] > 0.7
    assert history[-1]["loss/taught"] < 0.35


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "resizemix"])
def test_it_stands_beside_mixers_and_folders(kind):
    more = {"views.mix": {"kind": kind, "share": 1.0}, "training.batch_images": 32, "training.kimg": 0.064}
    history = trainer_of(tiny_config({"terms.taught": TERM} | FOLDER | more)).advance(2)
    assert all(0 < point["loss/taught"] < 2 for point in history)


def test_its_operations_are_counted_as_of_a_teacher_with_as_many_features():
    config = tiny_config({"terms.taught": TERM, "training.kimg": 0.032})
    width = trainer_of(config).lab.encoder.feature_dim
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU, {}, random_targets(config, dim=width))
    with FlopCounterMode(display=False) as counter:
        trainer.advance(2)
    assert training_flops(config) == counter.get_total_flops()


def test_a_plan_names_the_teacher_and_workers_find_it_wherever_they_run(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = config_of("fashion-mini", {"terms.taught": TERM})
    assert config.terms["taught"].teacher == str(tmp_path / "teacher.safetensors")
    require_teachers(config)
    assert describe_teachers(config, 1000)[0][1].endswith(
        "teacher.safetensors looks at each of 1,000 images once, when a run begins"
    )
    require_teachers(config.with_overrides({"terms.taught.teacher": "nowhere", "terms.taught.weight": 0.0}))


def make_wild(channels):
    """A user's encoder, whose features are too large."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * channels, 4), _Times(math.inf))


class _Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, features):
        return features * self.factor


def test_code_of_a_teacher_is_not_called_unless_it_is_trusted_and_its_features_are_numbers(tmp_path):
    custom = {"kind": "custom", "code": "test_distil:make_wild", "feature_dim": 4}
    file = written(tmp_path, encoder=custom)
    config = tiny_config({"terms.taught": TERM | {"teacher": file}})
    with pytest.raises(UserError, match=r"terms\.taught\.teacher: encoder .* made by the code 'test_distil:make_wild'"):
        require_teachers(config)
    trusting = config.with_overrides({"terms.taught.trust_code": True})
    for check in (require_teachers, lambda config: targets_of(config, random_images())):
        with pytest.raises(UserError, match=r"terms\.taught\.teacher: .* features that are not finite"):
            check(trusting)


def test_a_teacher_of_other_channels_is_refused(tmp_path):
    file = written(tmp_path)
    assert json.loads((tmp_path / "teacher.json").read_text())["input"]["channels"] == 1
    config = tiny_config({"data.channels": 3, "terms.taught": TERM | {"teacher": file}})
    with pytest.raises(UserError, match=r"data\.channels=1, and this run has 3; give a teacher of such images"):
        require_teachers(config)
    images = ResidentImages(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), CPU)
    with pytest.raises(UserError, match=r"data\.channels=1"):
        targets_of(config, images)
