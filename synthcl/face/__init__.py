"""What Python calls: `synthcl.search`, `train` and `compare`, which do what the commands of these names do."""
