"""From a video's bytes to small pictures, in a process that can be killed."""
