"""``python -m nuncius.cli``."""

from nuncius.cli import main

main()
