"""Makes a small, randomly initialised Hugging Face GPT-2 in a folder, with logits that it gives: make_gpt2.py FOLDER [KEY=JSON]...

expected.safetensors holds tokens [2, T] and logits [2, T, vocabulary]. Biases and norms are random too: with their usual
start at 0 and 1 a mistake in one would not be seen."""
import json
import sys

import torch
import transformers
from safetensors.torch import save_file

folder, settings = sys.argv[1], dict(pair.split("=", 1) for pair in sys.argv[2:])
torch.manual_seed(1)
shape = dict(n_layer=3, n_head=4, n_embd=48, n_positions=64, vocab_size=300)
shape.update({key: json.loads(value) for key, value in settings.items()})
model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    tokens = torch.randint(0, shape["vocab_size"], (2, shape["n_positions"]))
    logits = model(tokens).logits
model.save_pretrained(folder)
save_file({"tokens": tokens, "logits": logits.contiguous()}, folder + "/expected.safetensors")
