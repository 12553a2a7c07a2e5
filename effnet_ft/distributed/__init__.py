"""The processes of one run: collectives, how they were launched, and arrays that they fill together."""
