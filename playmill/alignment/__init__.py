"""How good the input log fits the video, and what the player did at each frame."""
