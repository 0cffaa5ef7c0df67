"""Who signs requests to each service, for the requests library."""
