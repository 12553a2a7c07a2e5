"""Writes a trained model as a file to ship: a program, or weights for this or another library."""
