"""The clients, and the configuration that they use."""
