"""Where catalogues come from: the video recipe, MovieLens, and tables of one's own."""
