"""Overrides that make any run of the default preset tiny, for tests that start real processes."""

TINY = {
    "data.image_fraction": 0.02,
    "data.image_size": 16,
    "encoder.width": 4,
    "heads.main.hidden": 16,
    "heads.main.dim": 8,
    "synthetic.gan.latent_dim": 8,
    "synthetic.gan.generator_width": 4,
    "synthetic.gan.discriminator_width": 4,
    "synthetic.gan.warmup_kimg": 0.256,
    "synthetic.gan.warmup_batch_images": 32,
    "training.kimg": 0.512,
    "training.batch_images": 32,
    "training.log_kimg": 0.064,
    "evaluation.rungs": [0.25, 0.5, 1.0],
    "evaluation.label_fractions": [200, 0.01],
    "evaluation.max_label_images": 200,
    "evaluation.transfer": ["digits"],
    "search.budgets": 4,
    "search.startup_trials": 2,
    "search.confirm_top": 1,
    "search.confirm_seeds": 1,
}

TINY_COMPARISON = TINY | {
    "data.source": "digits",
    "training.kimg": 0.064,  # 2 steps
    "training.log_kimg": 0.032,
    "evaluation.rungs": [1.0],
    "evaluation.label_fractions": [100],
    "evaluation.max_label_images": 100,
    "evaluation.transfer": [],
    "health.feature_rank_min": 0,
    "health.embedding_variance_min": 0,
}
"""as tiny, of runs that are compared: two steps on embedded digits"""


def arguments(overrides):
    """The overrides as `field=value` arguments."""
    return [f"{field}={value}" for field, value in overrides.items()]
