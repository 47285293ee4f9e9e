"""The main program of a rented machine; runs the same render scripts. Standard library and dagster_pipes."""
