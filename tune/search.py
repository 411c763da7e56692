"""Search for the curriculum that teaches best; the same as `synthcl search`."""

from synthcl.config import cli
from synthcl.programs.search import main

if __name__ == "__main__":
    cli.main(main)
