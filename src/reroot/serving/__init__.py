"""The wall as a service: sessions and an OpenAI-compatible face, by keys that each have a contract."""
