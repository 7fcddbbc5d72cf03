"""Items and interest phrases: their texts, catalogues, encoders and embedding space."""
