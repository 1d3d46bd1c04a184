"""Language models of transformers in small random configurations."""

from __future__ import annotations

from typing import Any

import torch
from cases.architectures import Architecture

_SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


class _Hidden(torch.nn.Module):
    """The last hidden state of a model, and nothing else."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, return_dict=False)[0]


def _model(name: str, **options: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")(**options)
    config._attn_implementation = "eager"
    return _Hidden(getattr(transformers, f"{name}Model")(config))


def _row(name: str, **options: Any) -> Architecture:
    return Architecture(f"transformers {name}", lambda: _model(name, **options), (9,), 40)


_DECODER = {**_SMALL, "num_key_value_heads": 1, "use_cache": False}

ROWS = [
    _row("Bert", **_SMALL),
    _row("Roberta", **{**_SMALL, "max_position_embeddings": 40}),
    _row("Electra", **_SMALL, embedding_size=16),
    _row("Albert", **_SMALL, embedding_size=8),
    _row(
        "DistilBert", vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32
    ),
    _row("GPT2", vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=2, use_cache=False),
    _row("Llama", **_DECODER),
    _row("Mistral", **_DECODER),
    _row("Qwen2", **_DECODER),
    _row("GPTNeoX", **_SMALL, use_cache=False),
]
