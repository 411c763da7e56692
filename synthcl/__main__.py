"""`python -m synthcl` is `synthcl`."""

from synthcl.programs.command import main

main()
