"""What a run stores: its folder, its study, its trials, and where they came from."""
