"""Places: one file per kind of process, the local mill, and the queue's half of the command."""
