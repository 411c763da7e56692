"""The search for a curriculum; nothing else in the package imports Ray Tune or Optuna."""

import synthcl.cluster  # noqa: F401 (sets what Ray reads when it is imported)
