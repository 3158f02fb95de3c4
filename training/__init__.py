"""Data, blends, train, evaluate, export: how the classifier is made and measured. Learns from files alone."""
