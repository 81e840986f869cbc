"""Runs in other tools: MLflow, TensorBoard and Optuna's dashboard."""
