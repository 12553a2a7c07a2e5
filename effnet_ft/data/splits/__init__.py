"""Dividing images into training, validation and test parts, and the file that records it."""
