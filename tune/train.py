"""Train one configuration; the same as `synthcl train`."""

from synthcl.config import cli
from synthcl.programs.train import main

if __name__ == "__main__":
    cli.main(main)
