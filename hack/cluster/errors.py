"""The one error of the cluster tool."""


class ClusterError(Exception):
    """Something that a person must mend; the text says what and how, in one line if it can."""
