"""The unattended run: when, over what, and what it says."""
