"""From a catalogue of photometry to a catalogue of posteriors."""
