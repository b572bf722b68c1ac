"""Normalizing flows in torch: shapes, samplers, training. No astronomy."""
