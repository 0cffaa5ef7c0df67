"""Finding the headers of a file, for each service."""
