"""Flower with pages of ours: one process, one look, one login."""
