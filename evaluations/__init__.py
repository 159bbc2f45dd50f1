"""Feature extraction and what is measured on features: Recall@K and NMI. Pure functions of arrays."""
