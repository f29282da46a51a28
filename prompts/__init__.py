"""Prompts for language models, a file each in `library/`; `catalog` loads and renders them."""
