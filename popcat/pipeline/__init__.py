"""From a catalogue to its posteriors in one command: `popcat fit`."""
