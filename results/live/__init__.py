"""A running search: progress bars, the board, and the time left."""
