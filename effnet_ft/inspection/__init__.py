"""Checks a data set before training: unreadable files, duplicates, unusual files, label issues."""
