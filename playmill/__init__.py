"""Playmill: recorded game-play in, synchronized datasets of features out."""

__version__ = "0.1.0"
