"""Programs beside the package: a plain transcription of the papers, its speed against ours, and a demo."""
