"""Where identity enters an application: one file for each kind of framework, which is imported by name only."""
