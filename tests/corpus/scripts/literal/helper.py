import os


def breeds(folder):
    """The names of the folders, in order."""
    return sorted(os.listdir(folder))
