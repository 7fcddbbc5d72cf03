"""Running cells: what a cell is, how it is trained and played, how sweeps survive."""
