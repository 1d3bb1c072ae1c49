"""An application that knows nothing of telemetry; the launcher and the environment do all of it."""

import openai

TICKETS = ["The invoice of March is missing.", "The export button does nothing."]


def main() -> None:
    """Sort tickets: one call of each kind."""
    client = openai.OpenAI()

    vectors = client.embeddings.create(model="text-embedding-3-small", input=TICKETS)
    print(f"{len(vectors.data)} tickets are embedded.")

    answer = client.responses.create(model="gpt-4o-mini", input=f"Which of these is urgent? {TICKETS}")
    print(answer.output_text)

    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"Summarise: {TICKETS}"}],
        stream=True,
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
