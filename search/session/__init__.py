"""A search from start to end: new, resumed, extended, or with its finalists trained again."""
