"""The API: HTTP in, SQL rows out. No pixels, no networks."""
