"""The puppet world: its words, what can happen in it, how that looks, how it is told. Knows no model."""
