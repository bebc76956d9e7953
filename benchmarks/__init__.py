"""Measurements, side by side in one run. Never tests."""
