"""Finding a phase's learning rate: a grid of heads, or a range test."""
