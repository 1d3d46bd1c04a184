"""Emitters for the few layers whose traced call would not give the right graph."""
