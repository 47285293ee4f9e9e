"""The room of characters: uploads with a skin, their inspection and sensor."""
