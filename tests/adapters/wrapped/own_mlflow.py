"""A script that logs to MLflow by itself, and prints the same."""

import mlflow

with mlflow.start_run(run_name="mine"):
    mlflow.log_param("depth", 3)
    for step in range(3):
        mlflow.log_metric("loss", 0.5**step, step=step)
        print(f"step {step}: loss={0.5**step}")
