"""Chaos: the real programs, broken on purpose while clients submit jobs; then every promise is checked by SQL."""
