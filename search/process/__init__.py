"""The process that searches: signals, notifications, and the MLflow follower."""
