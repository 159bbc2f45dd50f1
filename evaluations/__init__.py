"""Measures of features: Recall@K, NMI and others are pure functions of arrays; `retrieval` applies them to images."""
