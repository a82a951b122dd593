"""Generic controller machinery; knows none of our kinds."""
