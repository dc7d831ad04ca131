"""A GPT-2 of 10 kB in Hugging Face's layout, without torch or transformers, whole or as people publish it.

    make_tiny_gpt2.py FOLDER [FORM...] [KEY=JSON...]

FORM: no-prefix     names without "transformer."
      head          the tied matrix under the name lm_head.weight alone, as safetensors.torch.save_model leaves it
      both          under both names
      two           a second, different matrix lm_head.weight
      shards        in two files with an index, as models above 5 GB come
      bin           weights in pytorch_model.bin alone
      nan, inf      one weight is not finite
      extra         a tensor that no GPT-2 has
      outside       an index that names a file outside of the folder
      missing       an index, one of whose files is not there
KEY=JSON goes into config.json."""
import array
import json
import os
import random
import struct
import sys

folder = sys.argv[1]
forms = [a for a in sys.argv[2:] if "=" not in a]
keys = {k: json.loads(v) for k, v in (a.split("=", 1) for a in sys.argv[2:] if "=" in a)}
random.seed(1)
config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 300} | keys
vocabulary, width, positions, layers = (config[k] for k in ("vocab_size", "n_embd", "n_positions", "n_layer"))
shapes = {"wte.weight": [vocabulary, width], "wpe.weight": [positions, width], "ln_f.weight": [width], "ln_f.bias": [width]}
for i in range(layers):
    for name, rows, columns in (("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width), ("mlp.c_fc", width, 4 * width),
                                ("mlp.c_proj", 4 * width, width)):
        shapes |= {f"h.{i}.{name}.weight": [rows, columns], f"h.{i}.{name}.bias": [columns]}
    shapes |= {f"h.{i}.{norm}.{part}": [width] for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}


def draw(shape):
    count = 1
    for size in shape: count *= size
    return array.array("f", (random.gauss(0, 0.1) for _ in range(count)))


prefix = "" if "no-prefix" in forms else "transformer."
tensors = {prefix + name: (shape, draw(shape)) for name, shape in shapes.items()}
if "head" in forms: tensors["lm_head.weight"] = tensors.pop(prefix + "wte.weight")
if "both" in forms: tensors["lm_head.weight"] = tensors[prefix + "wte.weight"]
if "two" in forms: tensors["lm_head.weight"] = (shapes["wte.weight"], draw(shapes["wte.weight"]))
if "extra" in forms: tensors[prefix + "h.0.attn.lora_A.weight"] = ([2, width], draw([2, width]))
for form in ("nan", "inf"):
    if form in forms: tensors[prefix + "ln_f.bias"][1][3] = float(form)


def write(path, names):
    header, body = {}, b""
    for name in names:
        shape, values = tensors[name]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * len(values)]}
        body += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file: file.write(struct.pack("<Q", len(text)) + text + body)


os.makedirs(folder, exist_ok=True)
with open(folder + "/config.json", "w") as file: json.dump(config, file)
names = sorted(tensors)
if "bin" in forms:
    with open(folder + "/pytorch_model.bin", "w") as file: file.write("x")
elif {"shards", "outside", "missing"} & set(forms):
    where = {}
    for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        shard = f"model-0000{i}-of-00002.safetensors"
        if "missing" not in forms or i == 1: write(f"{folder}/{shard}", part)
        where |= {name: ("../" + shard if "outside" in forms else shard) for name in part}
    with open(folder + "/model.safetensors.index.json", "w") as file: json.dump({"weight_map": where}, file)
else:
    write(folder + "/model.safetensors", names)
