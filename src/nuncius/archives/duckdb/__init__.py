"""An exported archive (Parquet files) asked through DuckDB: the same questions, quick where much is read.

Needs the extra `duckdb`. The files are what `archive.export` writes.
"""

from nuncius.archives.duckdb.backend import DuckBackend

__all__ = ["DuckBackend"]
