"""What a library read, for the test: the pixels of each word in each image, and its version."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np


class Answer:
    """Collects masks; several of one word in one image are joined."""

    def __init__(self) -> None:
        self._images: dict[str, dict[str, np.ndarray]] = {}

    def image(self, name: str) -> None:
        self._images.setdefault(name, {})

    def add(self, name: str, word: str, mask: np.ndarray) -> None:
        words = self._images.setdefault(name, {})
        mask = np.asarray(mask, bool)
        if mask.any():
            words[word] = words.get(word, np.zeros_like(mask)) | mask

    def write(self, path: str, library: str) -> None:
        arrays, names = {}, {}
        for name, words in self._images.items():
            names[name] = {word: f"mask{len(arrays) + i}" for i, word in enumerate(words)}
            arrays |= {key: words[word] for word, key in names[name].items()}
        described = json.dumps({"library": f"{library} {version(library)}", "images": names})
        with Path(path).open("wb") as file:
            np.savez_compressed(file, described=np.array(described), **arrays)
