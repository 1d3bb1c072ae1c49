"""Where openai-metering meets other packages: one file for each kind, imported only by who uses that package."""
