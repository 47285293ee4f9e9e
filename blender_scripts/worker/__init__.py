"""The same render scripts as the main program of a rented machine. Standard library, and dagster_pipes."""
