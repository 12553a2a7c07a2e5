"""Measuring a model on labelled images: metrics, calibration and confidence intervals."""
