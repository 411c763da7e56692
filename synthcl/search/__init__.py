"""The search for a curriculum; with `synthcl.cluster`, the only importers of Ray, and the only one of Optuna."""
