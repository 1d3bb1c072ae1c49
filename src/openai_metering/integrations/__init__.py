"""Where openai-metering meets other packages: each module is imported only by who uses that package."""
