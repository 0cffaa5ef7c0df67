"""The private floor that every other part stands on."""
