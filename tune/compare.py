"""Compare arms at equal steps and equal views; the same as `synthcl compare`."""

from synthcl.config import cli
from synthcl.programs.compare import main

if __name__ == "__main__":
    cli.main(main)
