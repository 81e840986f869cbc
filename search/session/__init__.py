"""The course of a search: start, resume, extend, retrain finalists, and repair after a fault."""
