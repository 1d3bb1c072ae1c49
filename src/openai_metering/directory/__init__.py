"""Organizations, subscribers and credentials as managed things: a folder of plain files with history."""
