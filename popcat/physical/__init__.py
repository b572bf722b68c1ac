"""The physical prior of galaxies: published laws, and its density relative to the galaxy model's own prior."""
