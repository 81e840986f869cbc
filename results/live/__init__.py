"""Shows running searches: the board, progress lines, and the estimate of the time left."""
