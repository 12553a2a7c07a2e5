"""Helpers without any knowledge of images or networks."""
