"""What work elsewhere costs: estimates before it begins, and limits that hold."""
