"""Metric learning: near is what shares a label."""
