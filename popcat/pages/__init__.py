"""HTML pages: the report of a catalogue, a population, a cross-check."""
