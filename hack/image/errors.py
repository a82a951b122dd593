"""The one error of the image tool."""


class ImageError(Exception):
    """Something that a person must mend; the text says what and how."""
