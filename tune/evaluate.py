"""Score a frozen encoder; the same as `synthcl evaluate`."""

from synthcl.config import cli
from synthcl.programs.evaluate import main

if __name__ == "__main__":
    cli.main(main)
