"""The commands about photos, and the options that other commands share."""
