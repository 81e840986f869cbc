"""Code that all parts share: errors, terminal output, optional imports, and Keras with huetune's settings."""
