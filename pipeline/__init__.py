"""Bytes to faces to scores: a pure function of bytes, with no database, queue or web."""
