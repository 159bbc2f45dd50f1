"""Images and lists: which files there are, which views a step needs, in which order they come."""
