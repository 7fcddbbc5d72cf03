"""The joint recommender: collaborative filtering, content and language model under one loss."""
