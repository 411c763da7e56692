"""Look at this machine, or at a whole cluster; the same as `synthcl doctor`."""

from synthcl.config import cli
from synthcl.programs.doctor import main

if __name__ == "__main__":
    cli.main(main)
