"""Command groups of `main.py`, a file each: its options, then one call into `fabula.py`, then how it is shown."""
