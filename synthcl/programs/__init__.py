"""What a user starts: `synthcl PROGRAM`, and the scripts under tune/ that are the same."""
