"""Puts a NaN (or, with `inf`, an infinity) into one tensor of a checkpoint, with every checksum right: such weights come of
training, not of damage.

    break_weights.py STEP_FOLDER EXPORT.safetensors TENSOR [inf]

EXPORT.safetensors: the same checkpoint as `fwl export` writes it; its bytes are looked for in the checkpoint's files."""
import glob
import json
import re
import struct
import sys
import zlib

step, exported, tensor = sys.argv[1:4]
value = struct.pack("<f", float(sys.argv[4] if len(sys.argv) > 4 else "nan"))
raw = open(exported, "rb").read()
length = struct.unpack("<Q", raw[:8])[0]
begin, end = json.loads(raw[8 : 8 + length])[tensor]["data_offsets"]
old = raw[8 + length + begin : 8 + length + end]
new = value + old[4:]
(path,) = [f for f in glob.glob(step + "/rank-*.h5") if old in open(f, "rb").read()]
content = open(path, "rb").read()
assert content.count(old) == 1, "the tensor's bytes are there more than once"
changed = content.replace(old, new)
open(path, "wb").write(changed)
text = open(step + "/manifest.json").read()
for before, after in ((old, new), (content, changed)):
    sums = [f'"{zlib.crc32(part):08x}"' for part in (before, after)]
    assert text.count(sums[0]) == 1, "a checksum stands there more than once"
    text = text.replace(*sums)
body = re.sub(r'\n "checksum": "[0-9a-f]{8}",?', "", text).rstrip("\n")
open(step + "/manifest.json", "w").write(
    re.sub(r'(\n "checksum": )"[0-9a-f]{8}"', lambda m: f'{m[1]}"{zlib.crc32(body.encode()):08x}"', text))
