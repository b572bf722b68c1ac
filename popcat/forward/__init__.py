"""From the parameters of a galaxy to its spectrum, its photometry and what a survey would measure."""
