"""Pretrained weights: the table, key maps, reading files, downloading, and which ones a recipe means."""
