"""The search for a curriculum; nothing else in the package imports Ray Tune or Optuna."""
