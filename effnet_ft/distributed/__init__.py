"""Several processes in one run: collectives, and cached arrays that all ranks fill together."""
