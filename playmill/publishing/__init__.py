"""From parts and labels to one published file."""
