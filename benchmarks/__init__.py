"""How fast nuncius is, beside what it is compared with; run as ``python -m benchmarks``."""
