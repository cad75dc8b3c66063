"""A causal language model from a local Hugging Face folder, with its cache in the graph.

Any architecture that ``AutoModelForCausalLM`` knows and that takes its keys and values from a
``DynamicCache``: GPT-2, Llama, Mistral, Qwen and their like. Weights are read from safetensors, no
code of the folder is run, and nothing is fetched.

Inputs and outputs are those of ``language_model.py``: ``tokens``, ``past_key_0``, ``past_value_0``,
… and ``logits``, ``present_key_0``, …; a cache has the heads of keys, which may be fewer than those
of queries. Needs the package ``transformers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn


class CausalModel(nn.Module):
    """Tokens and cache into logits and cache; see ``build``."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, tokens: Tensor, **past: Tensor) -> dict[str, Tensor]:
        """Returns ``logits`` float32 (batch, steps, vocabulary), and the cache for the next call.

        Args:
            tokens: int64 (batch, steps).
            past: ``past_key_0``, ``past_value_0``, … of every layer, float32 (batch, heads, past,
                width of a head).
        """
        from transformers import DynamicCache

        pairs = [(past[f"past_key_{i}"], past[f"past_value_{i}"]) for i in range(self.layers)]
        outputs = self.model(input_ids=tokens, past_key_values=DynamicCache(pairs), use_cache=True)
        present = {}
        for index, layer in enumerate(outputs.past_key_values.layers):
            present[f"present_key_{index}"] = layer.keys
            present[f"present_value_{index}"] = layer.values
        return {"logits": outputs.logits, **present}


def build(folder: str, **options: Any) -> nn.Module:
    """Returns the model of a folder with its weights, in float32.

    Args:
        folder: with ``config.json`` and ``*.safetensors``.
        options: for ``from_pretrained``.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: no weights in safetensors are in it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if not Path(folder).is_dir():
        raise FileNotFoundError(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        attn_implementation="eager",  # whose products can be told apart in the graph
        **options,
    )
    return CausalModel(model, model.config.num_hidden_layers)
