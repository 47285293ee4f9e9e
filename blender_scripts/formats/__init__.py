"""Model and motion files, looked into before any importer opens them; standard library only, so both sides use it."""
