"""The ground floor: what work is and how it is remembered. No web framework, no tensors."""
