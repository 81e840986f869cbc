"""What all parts share: errors, the terminal, optional imports, and the settings of Keras."""
