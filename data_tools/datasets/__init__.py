"""Photos that need no folder of the user's: the synthetic garden, and TensorFlow's flowers."""
