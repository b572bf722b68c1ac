"""The galaxies and the posterior that tests of several folders share."""

from trained import *  # noqa: F403
