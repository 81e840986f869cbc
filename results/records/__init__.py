"""The stored form of a run: its folder, studies, trials, photos and provenance."""
