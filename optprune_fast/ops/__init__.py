"""Functions on tensors and packed words: one folder an operation, one file an implementation."""
