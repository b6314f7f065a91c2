"""Cleaning: steps by name that rewrite, drop and compare documents before they are tokenized (``clean=web``)."""
