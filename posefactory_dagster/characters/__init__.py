"""What came in: names, the checks on an upload, the upload sensor."""
