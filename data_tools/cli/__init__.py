"""The commands `huetune data ...`, and the options that other commands share."""
