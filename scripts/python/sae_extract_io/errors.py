"""What this package raises and warns of."""


class RunError(Exception):
    """A run, or a file of it, is not as it should be. The message names the file, what was expected and what to do."""


class UnfinishedRunWarning(UserWarning):
    """Files of a run are not there. What is there can be used."""
