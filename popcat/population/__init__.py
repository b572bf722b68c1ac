"""p(theta, z) of a whole survey: from its photometry (PopSED, Li et al. 2023), or from the posteriors of its galaxies.

The population is a mixture of spline flows over the galaxy model's parameters and the redshift. It describes the
parent: the galaxies before the survey's cuts, which the cuts, applied to synthetic photometry, turn into what is
observed. Of what lies far beyond the cuts the data say nothing; how much of it there may be is `max_hidden`.
"""
