"""The page of `search.py serve`: a folder's groups, look-alikes, duplicates and map, in a browser on the same machine."""
