"""Stored models become layer objects again."""
