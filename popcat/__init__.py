"""popcat: tables of galaxy photometry into probabilistic catalogues."""
__version__ = "0.1.0"
