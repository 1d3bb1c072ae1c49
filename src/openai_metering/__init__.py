"""Who used how much of OpenAI, through which key: metering for the ``openai`` package over OpenTelemetry."""
