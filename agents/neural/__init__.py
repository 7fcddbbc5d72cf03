"""Neural next-item recommenders, and the trainer that our torch models share."""
