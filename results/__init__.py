"""Trials become what people read and look at: tables, the best model, evaluations, pictures. Never needs Ray."""
