"""What stands behind the verbs of the `playmill` command that need no mill."""
