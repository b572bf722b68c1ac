"""Whether to believe a posterior: flags, certification, calibration, comparison with independent samplers."""
