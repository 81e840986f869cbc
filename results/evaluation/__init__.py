"""Models on photos: colorizations, metrics, the final check and contact sheets."""
