"""What is measured on features: Recall@K, NMI and others are pure functions of arrays; `retrieval.evaluate` applies them."""
