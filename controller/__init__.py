"""The controller: watches, decides, writes to the API server. Touches no user data."""
