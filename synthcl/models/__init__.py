"""The networks: plain modules made from their section of the config."""
