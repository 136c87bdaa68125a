"""One network: what it knows of itself, and how it is built from a config."""
