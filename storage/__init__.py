"""Everything fabula remembers: rows in one database, files in one folder. `archive.Archive` is the door."""
