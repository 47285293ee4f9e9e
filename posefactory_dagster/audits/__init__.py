"""The room of audits: pose models measured on a controlled set, one attribute at a time."""
