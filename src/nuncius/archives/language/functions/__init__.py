"""The functions of the expression language, by what they are about."""
