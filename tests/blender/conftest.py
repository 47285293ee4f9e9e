"""What tests of rented machines share."""

from tests.rented import rented  # noqa: F401  (a fixture)
