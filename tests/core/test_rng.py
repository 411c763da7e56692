"""Random numbers depend on every part of their key, and on nothing else."""

import torch

from synthcl.core import rng


def numbers(*key):
    return torch.rand(4, generator=rng.generator(*key)).tolist()


def test_numbers_depend_on_every_part_of_the_key():
    keys = [(0, "latents", 0), (1, "latents", 0), (0, "views", 0), (0, "latents", 1), (0, "latents"), ("latents", 0, 0)]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)
    assert len({rng.seed_from(seed, "latents", step) for seed in range(50) for step in range(50)}) == 2500


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before():
    first = numbers(3, "latents", 7)
    torch.manual_seed(1)
    torch.rand(10)
    assert numbers(3, "latents", 7) == first


def test_numbers_are_the_same_on_every_machine_and_python():
    assert rng.seed_from(0, "latents", 0) == 0x1EBE12821042FA45  # Python's own hash changes with each process


def test_seeds_fit_into_63_bits_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert all(0 <= rng.seed_from("key", index) < 2**63 for index in range(200))
    numbers("key")
    assert torch.equal(torch.random.get_rng_state(), state)
