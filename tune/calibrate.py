"""Which scores without labels may choose encoders; the same as `synthcl calibrate`."""

from synthcl.config import cli
from synthcl.programs.calibrate import main

if __name__ == "__main__":
    cli.main(main)
