"""Optimisers, learning-rate schedules and losses."""
