"""Images and image lists: the files of a data set, the views that a step needs, and their order."""
